#include "algo/heap.h"

#include <stdlib.h>

void heap_init(heap *h) {
    *h = (heap){0};
}

void heap_free(heap *h) {
    free(h->entries);
    heap_init(h);
}

bool heap_push(heap *h, int64_t priority, void *value) {
    if (h->count == h->capacity) {
        size_t capacity = h->capacity ? h->capacity * 2 : 16;
        heap_entry *entries = realloc(h->entries, capacity * sizeof *entries);
        if (entries == NULL)
            return false;
        h->entries = entries;
        h->capacity = capacity;
    }
    size_t at = h->count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (h->entries[parent].priority <= priority)
            break;
        h->entries[at] = h->entries[parent];
        at = parent;
    }
    h->entries[at] = (heap_entry){priority, value};
    return true;
}

bool heap_pop(heap *h, heap_entry *smallest) {
    if (h->count == 0)
        return false;
    *smallest = h->entries[0];
    heap_entry last = h->entries[--h->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= h->count)
            break;
        if (child + 1 < h->count && h->entries[child + 1].priority < h->entries[child].priority)
            child++;
        if (last.priority <= h->entries[child].priority)
            break;
        h->entries[at] = h->entries[child];
        at = child;
    }
    h->entries[at] = last;
    return true;
}
