/* Whole numbers in as few bytes as they need, seven bits each, least significant first. */
#ifndef CODEC_VARINT_H
#define CODEC_VARINT_H

#include "base/buffer.h"

void varint_write(uint64_t value, buffer *out);
/* The bytes read, 0 when they end early or hold more than 64 bits. */
size_t varint_read(const char *bytes, size_t length, uint64_t *value);
/* Signed numbers with small magnitude as small unsigned ones. */
uint64_t zigzag(int64_t value);
int64_t unzigzag(uint64_t value);

#endif
