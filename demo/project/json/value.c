#include "json/value.h"

#include <string.h>

json_value *json_new(arena *a, json_kind kind) {
    json_value *value = arena_zalloc(a, sizeof *value);
    if (value != NULL)
        value->kind = kind;
    return value;
}

void json_add(json_value *container, json_value *item) {
    if (container->as.items.last != NULL)
        container->as.items.last->next = item;
    else
        container->as.items.first = item;
    container->as.items.last = item;
    container->as.items.count++;
}

const json_value *json_member(const json_value *object, const char *name) {
    const json_value *found = NULL;
    if (object->kind != JSON_OBJECT)
        return NULL;
    for (const json_value *item = object->as.items.first; item != NULL; item = item->next) {
        if (strcmp(item->name, name) == 0)
            found = item;
    }
    return found;
}

const json_value *json_element(const json_value *array, size_t index) {
    if (array->kind != JSON_ARRAY)
        return NULL;
    const json_value *item = array->as.items.first;
    while (item != NULL && index-- > 0)
        item = item->next;
    return item;
}

static bool arrays_equal(const json_value *left, const json_value *right) {
    const json_value *a = left->as.items.first, *b = right->as.items.first;
    for (; a != NULL && b != NULL; a = a->next, b = b->next) {
        if (!json_equal(a, b))
            return false;
    }
    return a == NULL && b == NULL;
}

static bool objects_equal(const json_value *left, const json_value *right) {
    if (left->as.items.count != right->as.items.count)
        return false;
    for (const json_value *item = left->as.items.first; item != NULL; item = item->next) {
        const json_value *other = json_member(right, item->name);
        if (other == NULL || !json_equal(item, other))
            return false;
    }
    return true;
}

bool json_equal(const json_value *left, const json_value *right) {
    if (left->kind != right->kind)
        return false;
    switch (left->kind) {
    case JSON_NULL:
        return true;
    case JSON_BOOL:
        return left->as.boolean == right->as.boolean;
    case JSON_NUMBER:
        return left->as.number == right->as.number;
    case JSON_STRING:
        return left->as.string.length == right->as.string.length &&
               memcmp(left->as.string.text, right->as.string.text, left->as.string.length) == 0;
    case JSON_ARRAY:
        return arrays_equal(left, right);
    case JSON_OBJECT:
        return objects_equal(left, right);
    }
    return false;
}
