#include "codec/varint.h"

void varint_write(uint64_t value, buffer *out) {
    for (; value >= 0x80; value >>= 7)
        buffer_byte(out, (uint8_t)(value | 0x80));
    buffer_byte(out, (uint8_t)value);
}

size_t varint_read(const char *bytes, size_t length, uint64_t *value) {
    uint64_t result = 0;
    for (size_t i = 0; i < length && i < 10; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (i == 9 && byte > 1)
            return 0;
        result |= (uint64_t)(byte & 0x7F) << 7 * i;
        if (byte < 0x80) {
            *value = result;
            return i + 1;
        }
    }
    return 0;
}

uint64_t zigzag(int64_t value) {
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

int64_t unzigzag(uint64_t value) {
    uint64_t half = value >> 1;
    return value & 1 ? -(int64_t)half - 1 : (int64_t)half;
}
