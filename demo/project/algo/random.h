/* Pseudo-random numbers (xorshift64*): the same seed gives the same sequence on every machine. */
#ifndef ALGO_RANDOM_H
#define ALGO_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t state;
} random_source;

void random_seed(random_source *r, uint64_t seed);
uint64_t random_next(random_source *r);
/* Evenly from 0 to bound - 1; bound must not be 0. */
uint64_t random_below(random_source *r, uint64_t bound);
void random_shuffle(random_source *r, int *items, size_t count);

#endif
