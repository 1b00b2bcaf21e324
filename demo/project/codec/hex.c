#include "codec/hex.h"

void hex_encode(const void *bytes, size_t length, buffer *out) {
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = bytes;
    for (size_t i = 0; i < length; i++) {
        buffer_byte(out, (uint8_t)digits[p[i] >> 4]);
        buffer_byte(out, (uint8_t)digits[p[i] & 15]);
    }
}

static int digit_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool hex_decode(const char *text, size_t length, buffer *out) {
    if (length % 2 != 0)
        return false;
    for (size_t i = 0; i < length; i += 2) {
        int high = digit_value(text[i]), low = digit_value(text[i + 1]);
        if (high < 0 || low < 0)
            return false;
        buffer_byte(out, (uint8_t)(high << 4 | low));
    }
    return true;
}
