/*
 * A small LZ77 compressor. The stream is the length of the original (varint), then tokens: a varint whose lowest bit
 * says what follows; 0: that many literal bytes, 1: a copy of that many bytes from a distance (varint) back.
 */
#ifndef CODEC_LZ_H
#define CODEC_LZ_H

#include "base/buffer.h"

/* false when memory is exhausted. */
bool lz_compress(const void *bytes, size_t length, buffer *out);
/* false for anything that lz_compress does not make, and for originals above `limit` bytes. */
bool lz_decompress(const char *bytes, size_t length, size_t limit, buffer *out);

#endif
