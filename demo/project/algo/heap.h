/* Priority queue of pointers: a binary heap, smallest priority first. */
#ifndef ALGO_HEAP_H
#define ALGO_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int64_t priority;
    void *value;
} heap_entry;

typedef struct {
    heap_entry *entries;
    size_t count;
    size_t capacity;
} heap;

void heap_init(heap *h);
void heap_free(heap *h);
bool heap_push(heap *h, int64_t priority, void *value);
/* false when it is empty. */
bool heap_pop(heap *h, heap_entry *smallest);

#endif
