#include "algo/edit_distance.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static size_t least(size_t a, size_t b, size_t c) {
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

size_t edit_distance(const char *left, const char *right) {
    size_t columns = strlen(right);
    /* One row of the table at a time: row[j] is the distance of what was read of left to right[0..j]. */
    size_t *row = malloc((columns + 1) * sizeof *row);
    if (row == NULL)
        return SIZE_MAX;
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 0; left[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < columns; j++) {
            size_t replaced = diagonal + (left[i] != right[j]);
            diagonal = row[j + 1];
            row[j + 1] = least(replaced, row[j] + 1, diagonal + 1);
        }
    }
    size_t result = row[columns];
    free(row);
    return result;
}

const char *nearest_word(const char *word, const char *const *words, size_t count, size_t most) {
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, words[i]);
        if (distance <= most && distance != SIZE_MAX) {
            nearest = words[i];
            if (distance == 0)
                break;
            most = distance - 1;
        }
    }
    return nearest;
}
