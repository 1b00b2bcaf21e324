/* Hexadecimal, lower case. */
#ifndef CODEC_HEX_H
#define CODEC_HEX_H

#include "base/buffer.h"

void hex_encode(const void *bytes, size_t length, buffer *out);
/* false for an odd number of digits or anything that is no digit; `out` then holds what was read. */
bool hex_decode(const char *text, size_t length, buffer *out);

#endif
