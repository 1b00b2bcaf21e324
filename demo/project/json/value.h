/* JSON values. All memory belongs to the arena they were made in. */
#ifndef JSON_VALUE_H
#define JSON_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

typedef enum { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } json_kind;

typedef struct json_value json_value;

struct json_value {
    json_kind kind;
    json_value *next; /* the following element or member */
    const char *name; /* of a member, UTF-8 */
    union {
        bool boolean;
        double number;
        struct {
            const char *text; /* UTF-8, may hold NULs */
            size_t length;
        } string;
        struct {
            json_value *first, *last;
            size_t count;
        } items; /* of arrays and objects, in order */
    } as;
};

json_value *json_new(arena *a, json_kind kind);
void json_add(json_value *container, json_value *item);
/* NULL when there is no such member. When a name is there twice the last one counts. */
const json_value *json_member(const json_value *object, const char *name);
const json_value *json_element(const json_value *array, size_t index);
bool json_equal(const json_value *left, const json_value *right);

#endif
