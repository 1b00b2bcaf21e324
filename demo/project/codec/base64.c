#include "codec/base64.h"

#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *bytes, size_t length, buffer *out) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t group = (uint32_t)p[i] << 16;
        if (left > 1)
            group |= (uint32_t)p[i + 1] << 8;
        if (left > 2)
            group |= p[i + 2];
        char text[4] = {alphabet[group >> 18], alphabet[group >> 12 & 63], '=', '='};
        if (left > 1)
            text[2] = alphabet[group >> 6 & 63];
        if (left > 2)
            text[3] = alphabet[group & 63];
        buffer_append(out, text, 4);
    }
}

static int symbol_value(char c) {
    const char *at = c != '\0' ? strchr(alphabet, c) : NULL;
    return at != NULL ? (int)(at - alphabet) : -1;
}

bool base64_decode(const char *text, size_t length, buffer *out) {
    if (length % 4 != 0)
        return false;
    for (size_t i = 0; i < length; i += 4) {
        size_t symbols = 4;
        if (i + 4 == length && text[i + 3] == '=')
            symbols = text[i + 2] == '=' ? 2 : 3;
        uint32_t group = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = j < symbols ? symbol_value(text[i + j]) : 0;
            if (value < 0)
                return false;
            group = group << 6 | (uint32_t)value;
        }
        size_t bytes = symbols - 1;
        if ((group & (UINT32_C(0xFFFFFF) >> 8 * bytes)) != 0)
            return false;
        for (size_t j = 0; j < bytes; j++)
            buffer_byte(out, (uint8_t)(group >> (16 - 8 * j)));
    }
    return true;
}
