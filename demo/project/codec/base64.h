/* Base64 with padding (RFC 4648, section 4). */
#ifndef CODEC_BASE64_H
#define CODEC_BASE64_H

#include "base/buffer.h"

void base64_encode(const void *bytes, size_t length, buffer *out);
/* Strict: no white space, padding where it belongs, unused bits zero. */
bool base64_decode(const char *text, size_t length, buffer *out);

#endif
