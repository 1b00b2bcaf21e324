/* Stable sorting: natural merge sort with an insertion sort for short runs. */
#ifndef ALGO_SORT_H
#define ALGO_SORT_H

#include <stdbool.h>
#include <stddef.h>

typedef int (*compare_fn)(const void *left, const void *right);

/* false (and nothing moved) when memory for the merge is exhausted. */
bool sort_stable(void *items, size_t count, size_t size, compare_fn compare);
bool is_sorted(const void *items, size_t count, size_t size, compare_fn compare);
/* The index of the first item that is not less than the key; count when there is none. */
size_t lower_bound(const void *items, size_t count, size_t size, const void *key, compare_fn compare);

#endif
