#include "json/write.h"

#include <math.h>

static void write_text(const char *text, size_t length, buffer *out) {
    buffer_byte(out, '"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            buffer_printf(out, "\\%c", c);
        else if (c == '\n')
            buffer_text(out, "\\n");
        else if (c < 0x20)
            buffer_printf(out, "\\u%04x", c);
        else
            buffer_byte(out, c);
    }
    buffer_byte(out, '"');
}

static void write_number(double number, buffer *out) {
    if (!isfinite(number))
        buffer_text(out, "null"); /* JSON has no word for it */
    else if (number == floor(number) && fabs(number) < 1e15)
        buffer_printf(out, "%.0f", number);
    else
        buffer_printf(out, "%.17g", number);
}

static void new_line(int indent, int level, buffer *out) {
    if (indent > 0)
        buffer_printf(out, "\n%*s", indent * level, "");
}

static void write_level(const json_value *value, int indent, int level, buffer *out);

static void write_items(const json_value *value, int indent, int level, buffer *out) {
    bool is_object = value->kind == JSON_OBJECT;
    buffer_byte(out, is_object ? '{' : '[');
    for (const json_value *item = value->as.items.first; item != NULL; item = item->next) {
        new_line(indent, level + 1, out);
        if (is_object) {
            size_t length = 0;
            while (item->name[length] != '\0')
                length++;
            write_text(item->name, length, out);
            buffer_text(out, indent > 0 ? ": " : ":");
        }
        write_level(item, indent, level + 1, out);
        if (item->next != NULL)
            buffer_byte(out, ',');
    }
    if (value->as.items.count != 0)
        new_line(indent, level, out);
    buffer_byte(out, is_object ? '}' : ']');
}

static void write_level(const json_value *value, int indent, int level, buffer *out) {
    switch (value->kind) {
    case JSON_NULL:
        buffer_text(out, "null");
        break;
    case JSON_BOOL:
        buffer_text(out, value->as.boolean ? "true" : "false");
        break;
    case JSON_NUMBER:
        write_number(value->as.number, out);
        break;
    case JSON_STRING:
        write_text(value->as.string.text, value->as.string.length, out);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        write_items(value, indent, level, out);
        break;
    }
}

void json_write(const json_value *value, int indent, buffer *out) {
    write_level(value, indent, 0, out);
}
