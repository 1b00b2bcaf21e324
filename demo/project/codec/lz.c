#include "codec/lz.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "codec/varint.h"

enum { SHORTEST = 4, HASH_BITS = 13, HASH_SIZE = 1 << HASH_BITS };

static size_t match_length(const char *bytes, size_t earlier, size_t at, size_t length) {
    size_t matched = 0;
    while (at + matched < length && bytes[earlier + matched] == bytes[at + matched])
        matched++;
    return matched;
}

static void write_literals(const char *bytes, size_t count, buffer *out) {
    if (count == 0)
        return;
    varint_write((uint64_t)count << 1, out);
    buffer_append(out, bytes, count);
}

bool lz_compress(const void *input, size_t length, buffer *out) {
    const char *bytes = input;
    /* Where the last four bytes with that hash began, plus one; 0: nowhere. */
    size_t *last = calloc(HASH_SIZE, sizeof *last);
    if (last == NULL)
        return false;
    varint_write(length, out);
    size_t at = 0, literals = 0;
    while (at + SHORTEST <= length) {
        size_t slot = (size_t)(hash_bytes(bytes + at, SHORTEST) >> (64 - HASH_BITS));
        size_t earlier = last[slot];
        last[slot] = at + 1;
        size_t matched = earlier ? match_length(bytes, earlier - 1, at, length) : 0;
        if (matched < SHORTEST) {
            at++;
            continue;
        }
        write_literals(bytes + literals, at - literals, out);
        varint_write((uint64_t)matched << 1 | 1, out);
        varint_write(at - (earlier - 1), out);
        at += matched;
        literals = at;
    }
    write_literals(bytes + literals, length - literals, out);
    free(last);
    return !out->failed;
}

bool lz_decompress(const char *bytes, size_t length, size_t limit, buffer *out) {
    uint64_t original;
    size_t start = out->length;
    size_t at = varint_read(bytes, length, &original);
    if (at == 0 || original > limit)
        return false;
    while (at < length) {
        uint64_t token;
        size_t size = varint_read(bytes + at, length - at, &token);
        uint64_t count = token >> 1;
        if (size == 0 || count > original - (out->length - start))
            return false;
        at += size;
        if ((token & 1) == 0) {
            if (count > length - at)
                return false;
            buffer_append(out, bytes + at, (size_t)count);
            at += (size_t)count;
            continue;
        }
        uint64_t distance;
        size = varint_read(bytes + at, length - at, &distance);
        if (size == 0 || distance == 0 || distance > out->length - start)
            return false;
        at += size;
        /* Byte by byte: a copy may overlap what it makes, which is how runs are packed. */
        for (; count > 0 && !out->failed; count--)
            buffer_byte(out, (uint8_t)out->data[out->length - (size_t)distance]);
    }
    return !out->failed && out->length - start == original;
}
