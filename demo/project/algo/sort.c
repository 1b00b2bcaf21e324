#include "algo/sort.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_RUN = 12 };

static void insertion_sort(char *items, size_t count, size_t size, compare_fn compare, char *spare) {
    for (size_t i = 1; i < count; i++) {
        size_t to = i;
        while (to > 0 && compare(items + (to - 1) * size, items + i * size) > 0)
            to--;
        if (to == i)
            continue;
        memcpy(spare, items + i * size, size);
        memmove(items + (to + 1) * size, items + to * size, (i - to) * size);
        memcpy(items + to * size, spare, size);
    }
}

static void merge(char *items, size_t left, size_t count, size_t size, compare_fn compare, char *spare) {
    memcpy(spare, items, left * size);
    size_t i = 0, j = left, out = 0;
    while (i < left && j < count) {
        /* Equal items come from the left: that is what makes it stable. */
        if (compare(spare + i * size, items + j * size) <= 0)
            memcpy(items + out++ * size, spare + i++ * size, size);
        else
            memmove(items + out++ * size, items + j++ * size, size);
    }
    memcpy(items + out * size, spare + i * size, (left - i) * size);
}

static void sort_range(char *items, size_t count, size_t size, compare_fn compare, char *spare) {
    if (count <= SHORT_RUN) {
        insertion_sort(items, count, size, compare, spare);
        return;
    }
    size_t left = count / 2;
    sort_range(items, left, size, compare, spare);
    sort_range(items + left * size, count - left, size, compare, spare);
    if (compare(items + (left - 1) * size, items + left * size) > 0)
        merge(items, left, count, size, compare, spare);
}

bool sort_stable(void *items, size_t count, size_t size, compare_fn compare) {
    if (count < 2 || size == 0)
        return true;
    char *spare = malloc((count / 2 + 1) * size);
    if (spare == NULL)
        return false;
    sort_range(items, count, size, compare, spare);
    free(spare);
    return true;
}

bool is_sorted(const void *items, size_t count, size_t size, compare_fn compare) {
    const char *p = items;
    for (size_t i = 1; i < count; i++) {
        if (compare(p + (i - 1) * size, p + i * size) > 0)
            return false;
    }
    return true;
}

size_t lower_bound(const void *items, size_t count, size_t size, const void *key, compare_fn compare) {
    const char *p = items;
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(p + middle * size, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
