/* Prime numbers by the sieve of Eratosthenes. */
#ifndef ALGO_SIEVE_H
#define ALGO_SIEVE_H

#include "algo/bitset.h"

/* Fills `primes` (to be freed with bitset_free) with the primes below `limit`. */
bool sieve(bitset *primes, size_t limit);

#endif
