#include "algo/random.h"

void random_seed(random_source *r, uint64_t seed) {
    /* State 0 would stay 0 for ever. */
    r->state = seed ? seed : UINT64_C(0x9e3779b97f4a7c15);
}

uint64_t random_next(random_source *r) {
    uint64_t x = r->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    r->state = x;
    return x * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t random_below(random_source *r, uint64_t bound) {
    /* Numbers from an incomplete last round would favour small results: drawn again. */
    uint64_t incomplete = (UINT64_MAX % bound + 1) % bound;
    uint64_t drawn;
    do
        drawn = random_next(r);
    while (drawn > UINT64_MAX - incomplete);
    return drawn % bound;
}

void random_shuffle(random_source *r, int *items, size_t count) {
    for (size_t i = count; i > 1; i--) {
        size_t other = (size_t)random_below(r, i);
        int held = items[i - 1];
        items[i - 1] = items[other];
        items[other] = held;
    }
}
