#include "algo/sieve.h"

bool sieve(bitset *primes, size_t limit) {
    if (!bitset_init(primes, limit))
        return false;
    for (size_t n = 2; n < limit; n++)
        bitset_set(primes, n, true);
    for (size_t p = 2; p <= limit / p; p = bitset_next(primes, p + 1)) {
        for (size_t multiple = p * p; multiple < limit; multiple += p)
            bitset_set(primes, multiple, false);
    }
    return true;
}
