/* JSON text to values (RFC 8259). */
#ifndef JSON_PARSE_H
#define JSON_PARSE_H

#include "json/value.h"

typedef struct {
    const char *message; /* NULL: no error */
    size_t line, column; /* from 1, columns in bytes */
} json_error;

/* NULL and the error when the text is not JSON, nests deeper than 200, or memory is exhausted. */
json_value *json_parse(arena *a, const char *text, size_t length, json_error *error);

#endif
