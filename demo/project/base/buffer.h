/* Buffer: bytes that grow at the end. Its data always ends in a NUL that does not count. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *data;
    size_t length;
    size_t capacity;
    bool failed; /* memory ran out; what was appended since is lost */
} buffer;

void buffer_init(buffer *b);
void buffer_free(buffer *b);
void buffer_clear(buffer *b);
void buffer_append(buffer *b, const void *bytes, size_t length);
void buffer_text(buffer *b, const char *text);
void buffer_byte(buffer *b, uint8_t byte);
void buffer_printf(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
