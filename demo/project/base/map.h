/* Map from text to a pointer: open addressing with linear probing, keys kept in an arena. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

typedef struct {
    const char *key; /* NULL: never used */
    void *value;
    bool deleted;
} map_slot;

typedef struct {
    map_slot *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t used;     /* slots with a key, deleted ones included */
    size_t count;    /* live entries */
    arena keys;
} map;

void map_init(map *m);
void map_free(map *m);
/* false when memory is exhausted. Replaces the value of a key that is there. */
bool map_put(map *m, const char *key, void *value);
void *map_get(const map *m, const char *key);
bool map_has(const map *m, const char *key);
bool map_remove(map *m, const char *key);
/* Start with *cursor = 0; false at the end. The order is that of the table. */
bool map_next(const map *m, size_t *cursor, const char **key, void **value);

#endif
