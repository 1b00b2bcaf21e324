#include "base/utf8.h"

static bool exists(uint32_t code_point) {
    return code_point <= 0x10FFFF && !(code_point >= 0xD800 && code_point <= 0xDFFF);
}

size_t utf8_encode(uint32_t c, char out[4]) {
    if (!exists(c))
        return 0;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = length; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(lead[length] | c);
    return length;
}

size_t utf8_decode(const char *text, size_t length, uint32_t *code_point) {
    if (length == 0)
        return 0;
    unsigned char first = (unsigned char)text[0];
    size_t size = first < 0x80 ? 1 : first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
    if (size == 0 || size > length)
        return 0;
    static const unsigned char mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = first & mask[size];
    for (size_t i = 1; i < size; i++) {
        unsigned char next = (unsigned char)text[i];
        if (next >> 6 != 2)
            return 0;
        c = c << 6 | (next & 0x3F);
    }
    if (c < least[size] || !exists(c))
        return 0;
    *code_point = c;
    return size;
}

bool utf8_valid(const char *text, size_t length) {
    uint32_t ignored;
    while (length > 0) {
        size_t size = utf8_decode(text, length, &ignored);
        if (size == 0)
            return false;
        text += size;
        length -= size;
    }
    return true;
}

size_t utf8_count(const char *text, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)text[i] >> 6) != 2;
    return count;
}
