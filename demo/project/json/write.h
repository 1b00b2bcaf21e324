/* Values to JSON text. */
#ifndef JSON_WRITE_H
#define JSON_WRITE_H

#include "base/buffer.h"
#include "json/value.h"

/* indent 0: all on one line; otherwise that many spaces a level. */
void json_write(const json_value *value, int indent, buffer *out);

#endif
