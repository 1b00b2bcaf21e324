/* Code of the stack machine. */
#ifndef CALC_PROGRAM_H
#define CALC_PROGRAM_H

#include <stddef.h>

#include "base/arena.h"

typedef enum {
    OP_PUSH,  /* number */
    OP_LOAD,  /* name */
    OP_STORE, /* name; leaves the value on the stack */
    OP_CALL,  /* name, count */
    OP_NEGATE,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_REMAINDER,
    OP_POWER,
    OP_LESS,
    OP_GREATER,
} op_code;

typedef struct {
    op_code op;
    double number;
    const char *name;
    size_t count;
} instruction;

typedef struct {
    instruction *code;
    size_t length;
    size_t capacity;
    size_t deepest; /* the most values on the stack at once */
} program;

#endif
