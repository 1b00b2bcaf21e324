/*
 * Tokens to a tree, by precedence climbing. From loose to tight: assignment, comparison, sum, product, sign, power
 * (which binds to the right).
 */
#ifndef CALC_PARSER_H
#define CALC_PARSER_H

#include "base/arena.h"
#include "calc/ast.h"

typedef struct {
    const char *message; /* NULL: no error */
    size_t column;       /* from 1 */
} calc_error;

/* NULL and the error when the text is no expression. The tree and its names live in the arena. */
ast *calc_parse(arena *a, const char *text, calc_error *error);

#endif
