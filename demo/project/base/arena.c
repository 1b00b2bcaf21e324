#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct arena_block {
    arena_block *next;
    size_t capacity;
    size_t filled;
    alignas(max_align_t) unsigned char bytes[];
};

enum { DEFAULT_BLOCK = 4096 };

void arena_init(arena *a, size_t block_size) {
    a->blocks = NULL;
    a->block_size = block_size ? block_size : DEFAULT_BLOCK;
    a->used = 0;
}

static size_t round_up(size_t size) {
    const size_t step = alignof(max_align_t);
    return (size + step - 1) / step * step;
}

static arena_block *add_block(arena *a, size_t at_least) {
    size_t capacity = at_least > a->block_size ? at_least : a->block_size;
    arena_block *block = malloc(sizeof *block + capacity);
    if (block == NULL)
        return NULL;
    block->capacity = capacity;
    block->filled = 0;
    block->next = a->blocks;
    a->blocks = block;
    return block;
}

void *arena_alloc(arena *a, size_t size) {
    size_t padded = round_up(size ? size : 1);
    arena_block *block = a->blocks;
    if (padded < size)
        return NULL;
    if (block == NULL || block->capacity - block->filled < padded)
        block = add_block(a, padded);
    if (block == NULL)
        return NULL;
    void *result = block->bytes + block->filled;
    block->filled += padded;
    a->used += size;
    return result;
}

void *arena_zalloc(arena *a, size_t size) {
    void *result = arena_alloc(a, size);
    if (result != NULL)
        memset(result, 0, size);
    return result;
}

char *arena_strndup(arena *a, const char *text, size_t length) {
    char *copy = arena_alloc(a, length + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

void arena_release(arena *a) {
    while (a->blocks != NULL) {
        arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
    a->used = 0;
}
