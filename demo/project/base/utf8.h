/* UTF-8, strict: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Writes 1 to 4 bytes; 0 for a code point that does not exist. */
size_t utf8_encode(uint32_t code_point, char out[4]);
/* The bytes read, 0 when they are not UTF-8. */
size_t utf8_decode(const char *text, size_t length, uint32_t *code_point);
bool utf8_valid(const char *text, size_t length);
/* Code points in valid text. */
size_t utf8_count(const char *text, size_t length);

#endif
