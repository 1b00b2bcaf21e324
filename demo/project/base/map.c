#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

void map_init(map *m) {
    *m = (map){0};
    arena_init(&m->keys, 1024);
}

void map_free(map *m) {
    free(m->slots);
    arena_release(&m->keys);
    map_init(m);
}

/* The slot of the key, or the first one where it could go. */
static map_slot *find(map_slot *slots, size_t capacity, const char *key) {
    size_t mask = capacity - 1;
    map_slot *grave = NULL;
    for (size_t i = (size_t)hash_bytes(key, strlen(key)) & mask;; i = (i + 1) & mask) {
        map_slot *slot = &slots[i];
        if (slot->key == NULL)
            return grave != NULL ? grave : slot;
        if (slot->deleted) {
            if (grave == NULL)
                grave = slot;
        } else if (strcmp(slot->key, key) == 0) {
            return slot;
        }
    }
}

static bool grow(map *m) {
    size_t capacity = m->capacity ? m->capacity : 8;
    /* Many graves and few entries: clean up without growing. */
    if (m->count * 2 >= capacity)
        capacity *= 2;
    map_slot *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i < m->capacity; i++) {
        if (m->slots[i].key != NULL && !m->slots[i].deleted)
            *find(slots, capacity, m->slots[i].key) = m->slots[i];
    }
    free(m->slots);
    m->slots = slots;
    m->capacity = capacity;
    m->used = m->count;
    return true;
}

static map_slot *live(const map *m, const char *key) {
    if (m->capacity == 0)
        return NULL;
    map_slot *slot = find(m->slots, m->capacity, key);
    return slot->key != NULL && !slot->deleted ? slot : NULL;
}

bool map_put(map *m, const char *key, void *value) {
    map_slot *slot = live(m, key);
    if (slot != NULL) {
        slot->value = value;
        return true;
    }
    if ((m->used + 1) * 4 > m->capacity * 3 && !grow(m))
        return false;
    char *copy = arena_strndup(&m->keys, key, strlen(key));
    if (copy == NULL)
        return false;
    slot = find(m->slots, m->capacity, key);
    if (slot->key == NULL)
        m->used++;
    *slot = (map_slot){.key = copy, .value = value};
    m->count++;
    return true;
}

void *map_get(const map *m, const char *key) {
    map_slot *slot = live(m, key);
    return slot != NULL ? slot->value : NULL;
}

bool map_has(const map *m, const char *key) {
    return live(m, key) != NULL;
}

bool map_remove(map *m, const char *key) {
    map_slot *slot = live(m, key);
    if (slot == NULL)
        return false;
    slot->deleted = true;
    m->count--;
    return true;
}

bool map_next(const map *m, size_t *cursor, const char **key, void **value) {
    while (*cursor < m->capacity) {
        const map_slot *slot = &m->slots[(*cursor)++];
        if (slot->key != NULL && !slot->deleted) {
            *key = slot->key;
            *value = slot->value;
            return true;
        }
    }
    return false;
}
