/* Expressions as trees. */
#ifndef CALC_AST_H
#define CALC_AST_H

#include <stddef.h>

typedef enum { AST_NUMBER, AST_VARIABLE, AST_ASSIGN, AST_NEGATE, AST_BINARY, AST_CALL } ast_kind;

typedef struct ast ast;

struct ast {
    ast_kind kind;
    double number;
    const char *name; /* variable, assigned variable or function */
    char sign;        /* of AST_BINARY */
    ast *left, *right;
    ast *arguments; /* of AST_CALL, linked by next */
    ast *next;
    size_t argument_count;
};

#endif
