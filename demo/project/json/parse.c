#include "json/parse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/utf8.h"

enum { DEEPEST = 200 };

typedef struct {
    arena *memory;
    const char *start, *at, *end;
    const char *message;
    int depth;
    buffer scratch;
} parser;

static json_value *parse_value(parser *p);

static json_value *fail(parser *p, const char *message) {
    if (p->message == NULL)
        p->message = message;
    return NULL;
}

static void skip_space(parser *p) {
    while (p->at < p->end && strchr(" \t\r\n", *p->at) != NULL && *p->at != '\0')
        p->at++;
}

static bool accept(parser *p, char c) {
    skip_space(p);
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static bool parse_hex4(parser *p, uint32_t *unit) {
    *unit = 0;
    if (p->end - p->at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef";
        char c = *p->at++;
        const char *found = c != '\0' ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
        if (found == NULL)
            return false;
        *unit = *unit << 4 | (uint32_t)(found - digits);
    }
    return true;
}

static bool parse_unicode_escape(parser *p) {
    uint32_t unit, low;
    if (!parse_hex4(p, &unit))
        return false;
    if (unit >= 0xD800 && unit < 0xDC00) {
        if (p->end - p->at < 2 || p->at[0] != '\\' || p->at[1] != 'u')
            return false;
        p->at += 2;
        if (!parse_hex4(p, &low) || low < 0xDC00 || low > 0xDFFF)
            return false;
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    char bytes[4];
    size_t size = utf8_encode(unit, bytes);
    buffer_append(&p->scratch, bytes, size);
    return size != 0;
}

static bool parse_escape(parser *p) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (p->at == p->end)
        return false;
    char c = *p->at++;
    if (c == 'u')
        return parse_unicode_escape(p);
    const char *found = c != '\0' ? strchr(names, c) : NULL;
    if (found == NULL)
        return false;
    buffer_byte(&p->scratch, (uint8_t)meanings[found - names]);
    return true;
}

/* Leaves the text in the scratch buffer. */
static bool parse_text(parser *p) {
    buffer_clear(&p->scratch);
    while (p->at < p->end && *p->at != '"') {
        if ((unsigned char)*p->at < 0x20)
            return fail(p, "control characters in strings must be escaped") != NULL;
        if (*p->at != '\\') {
            buffer_byte(&p->scratch, (uint8_t)*p->at++);
            continue;
        }
        p->at++;
        if (!parse_escape(p))
            return fail(p, "no such escape") != NULL;
    }
    if (p->at == p->end)
        return fail(p, "string without an end") != NULL;
    p->at++;
    if (p->scratch.failed || !utf8_valid(p->scratch.data ? p->scratch.data : "", p->scratch.length))
        return fail(p, "string is not UTF-8") != NULL;
    return true;
}

static const char *keep_text(parser *p) {
    return arena_strndup(p->memory, p->scratch.data ? p->scratch.data : "", p->scratch.length);
}

static json_value *parse_string(parser *p) {
    if (!parse_text(p))
        return NULL;
    json_value *value = json_new(p->memory, JSON_STRING);
    const char *text = keep_text(p);
    if (value == NULL || text == NULL)
        return fail(p, "out of memory");
    value->as.string.text = text;
    value->as.string.length = p->scratch.length;
    return value;
}

static size_t count_digits(const char *at, const char *end) {
    size_t count = 0;
    while (at + count < end && at[count] >= '0' && at[count] <= '9')
        count++;
    return count;
}

static json_value *parse_number(parser *p) {
    const char *at = p->at + (*p->at == '-');
    size_t whole = count_digits(at, p->end);
    if (whole == 0 || (whole > 1 && *at == '0'))
        return fail(p, "not a number");
    at += whole;
    if (at < p->end && *at == '.') {
        size_t fraction = count_digits(++at, p->end);
        if (fraction == 0)
            return fail(p, "digits must follow the point");
        at += fraction;
    }
    if (at < p->end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < p->end && (*at == '+' || *at == '-'))
            at++;
        size_t exponent = count_digits(at, p->end);
        if (exponent == 0)
            return fail(p, "digits must follow the exponent sign");
        at += exponent;
    }
    json_value *value = json_new(p->memory, JSON_NUMBER);
    char *copy = arena_strndup(p->memory, p->at, (size_t)(at - p->at));
    if (value == NULL || copy == NULL)
        return fail(p, "out of memory");
    value->as.number = strtod(copy, NULL);
    p->at = at;
    return value;
}

static json_value *parse_word(parser *p, const char *word, json_kind kind, bool boolean) {
    size_t length = strlen(word);
    if ((size_t)(p->end - p->at) < length || memcmp(p->at, word, length) != 0)
        return fail(p, "a value was expected");
    p->at += length;
    json_value *value = json_new(p->memory, kind);
    if (value != NULL && kind == JSON_BOOL)
        value->as.boolean = boolean;
    return value;
}

static json_value *parse_items(parser *p, json_kind kind, char close) {
    json_value *container = json_new(p->memory, kind);
    if (container == NULL)
        return fail(p, "out of memory");
    if (accept(p, close))
        return container;
    do {
        const char *name = NULL;
        if (kind == JSON_OBJECT) {
            if (!accept(p, '"'))
                return fail(p, "a member name was expected");
            if (!parse_text(p) || (name = keep_text(p)) == NULL)
                return fail(p, "out of memory");
            if (!accept(p, ':'))
                return fail(p, "':' was expected");
        }
        json_value *item = parse_value(p);
        if (item == NULL)
            return NULL;
        item->name = name;
        json_add(container, item);
    } while (accept(p, ','));
    return accept(p, close) ? container : fail(p, "',' or the closing bracket was expected");
}

static json_value *parse_value(parser *p) {
    if (++p->depth > DEEPEST)
        return fail(p, "nested too deep");
    json_value *value;
    skip_space(p);
    char c = p->at < p->end ? *p->at : '\0';
    if (accept(p, '{'))
        value = parse_items(p, JSON_OBJECT, '}');
    else if (accept(p, '['))
        value = parse_items(p, JSON_ARRAY, ']');
    else if (accept(p, '"'))
        value = parse_string(p);
    else if (c == 't')
        value = parse_word(p, "true", JSON_BOOL, true);
    else if (c == 'f')
        value = parse_word(p, "false", JSON_BOOL, false);
    else if (c == '-' || (c >= '0' && c <= '9'))
        value = parse_number(p);
    else
        value = parse_word(p, "null", JSON_NULL, false);
    p->depth--;
    return value;
}

static void locate(const parser *p, json_error *error) {
    error->message = p->message;
    error->line = 1;
    error->column = 1;
    for (const char *c = p->start; c < p->at; c++) {
        error->column = *c == '\n' ? 1 : error->column + 1;
        error->line += *c == '\n';
    }
}

json_value *json_parse(arena *a, const char *text, size_t length, json_error *error) {
    parser p = {.memory = a, .start = text, .at = text, .end = text + length};
    buffer_init(&p.scratch);
    *error = (json_error){0};
    json_value *value = parse_value(&p);
    skip_space(&p);
    if (value != NULL && p.at != p.end)
        value = fail(&p, "nothing may follow the value");
    buffer_free(&p.scratch);
    if (value == NULL)
        locate(&p, error);
    return value;
}
