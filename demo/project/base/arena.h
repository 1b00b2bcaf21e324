/* Arena: many small allocations that are all released at once. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

typedef struct arena_block arena_block;

typedef struct {
    arena_block *blocks; /* newest first */
    size_t block_size;
    size_t used; /* bytes handed out, without padding */
} arena;

/* block_size 0 takes the default of 4096 bytes. */
void arena_init(arena *a, size_t block_size);
/* Aligned for any type, not zeroed. NULL when memory is exhausted. */
void *arena_alloc(arena *a, size_t size);
void *arena_zalloc(arena *a, size_t size);
char *arena_strndup(arena *a, const char *text, size_t length);
void arena_release(arena *a);

#endif
