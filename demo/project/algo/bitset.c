#include "algo/bitset.h"

#include <stdlib.h>

enum { BITS = 64 };

static size_t word_count(size_t size) {
    return size / BITS + (size % BITS != 0);
}

bool bitset_init(bitset *s, size_t size) {
    s->size = size;
    s->words = calloc(size ? word_count(size) : 1, sizeof *s->words);
    return s->words != NULL;
}

void bitset_free(bitset *s) {
    free(s->words);
    *s = (bitset){0};
}

void bitset_set(bitset *s, size_t number, bool member) {
    if (number >= s->size)
        return;
    uint64_t bit = UINT64_C(1) << number % BITS;
    if (member)
        s->words[number / BITS] |= bit;
    else
        s->words[number / BITS] &= ~bit;
}

bool bitset_has(const bitset *s, size_t number) {
    return number < s->size && (s->words[number / BITS] >> number % BITS & 1);
}

size_t bitset_count(const bitset *s) {
    size_t count = 0;
    for (size_t i = 0; i < word_count(s->size); i++) {
        for (uint64_t word = s->words[i]; word != 0; word &= word - 1)
            count++;
    }
    return count;
}

size_t bitset_next(const bitset *s, size_t from) {
    for (size_t number = from; number < s->size; number++) {
        /* A whole word without members is skipped at once. */
        if (number % BITS == 0 && s->words[number / BITS] == 0)
            number += BITS - 1;
        else if (bitset_has(s, number))
            return number;
    }
    return s->size;
}
