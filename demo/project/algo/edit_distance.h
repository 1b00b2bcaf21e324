/* How many insertions, deletions and replacements lie between two texts (Levenshtein). */
#ifndef ALGO_EDIT_DISTANCE_H
#define ALGO_EDIT_DISTANCE_H

#include <stddef.h>

/* In bytes. SIZE_MAX when memory is exhausted. */
size_t edit_distance(const char *left, const char *right);
/* The nearest of the words, NULL when all are further away than `most`. */
const char *nearest_word(const char *word, const char *const *words, size_t count, size_t most);

#endif
