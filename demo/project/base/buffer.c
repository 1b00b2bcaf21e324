#include "base/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_init(buffer *b) {
    *b = (buffer){0};
}

void buffer_free(buffer *b) {
    free(b->data);
    buffer_init(b);
}

void buffer_clear(buffer *b) {
    b->length = 0;
    b->failed = false;
    if (b->data != NULL)
        b->data[0] = '\0';
}

static bool reserve(buffer *b, size_t more) {
    size_t needed = b->length + more + 1;
    if (b->failed || needed < more) {
        b->failed = true;
        return false;
    }
    if (needed <= b->capacity)
        return true;
    size_t capacity = b->capacity ? b->capacity : 32;
    while (capacity < needed)
        capacity *= 2;
    char *data = realloc(b->data, capacity);
    if (data == NULL) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->capacity = capacity;
    return true;
}

void buffer_append(buffer *b, const void *bytes, size_t length) {
    if (!reserve(b, length))
        return;
    if (length != 0)
        memcpy(b->data + b->length, bytes, length);
    b->length += length;
    b->data[b->length] = '\0';
}

void buffer_text(buffer *b, const char *text) {
    buffer_append(b, text, strlen(text));
}

void buffer_byte(buffer *b, uint8_t byte) {
    buffer_append(b, &byte, 1);
}

void buffer_printf(buffer *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !reserve(b, (size_t)length)) {
        b->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(b->data + b->length, (size_t)length + 1, format, args);
    va_end(args);
    b->length += (size_t)length;
}
