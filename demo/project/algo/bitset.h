/* A set of small numbers, one bit each. */
#ifndef ALGO_BITSET_H
#define ALGO_BITSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t *words;
    size_t size; /* numbers are below this */
} bitset;

bool bitset_init(bitset *s, size_t size);
void bitset_free(bitset *s);
void bitset_set(bitset *s, size_t number, bool member);
bool bitset_has(const bitset *s, size_t number);
size_t bitset_count(const bitset *s);
/* The first member at or after `from`; `size` when there is none. */
size_t bitset_next(const bitset *s, size_t from);

#endif
