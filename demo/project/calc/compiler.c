#include "calc/compiler.h"

#include <stdbool.h>
#include <string.h>

#include "calc/arithmetic.h"

typedef struct {
    arena *memory;
    program *out;
    size_t depth;
    bool failed;
} compiler;

static op_code binary_op(char sign) {
    switch (sign) {
    case '+':
        return OP_ADD;
    case '-':
        return OP_SUBTRACT;
    case '*':
        return OP_MULTIPLY;
    case '/':
        return OP_DIVIDE;
    case '%':
        return OP_REMAINDER;
    case '^':
        return OP_POWER;
    case '<':
        return OP_LESS;
    default:
        return OP_GREATER;
    }
}

/* Whether the tree is a number whatever the variables are. */
static bool fold(const ast *tree, double *number) {
    double left, right;
    switch (tree->kind) {
    case AST_NUMBER:
        *number = tree->number;
        return true;
    case AST_NEGATE:
        if (!fold(tree->left, &left))
            return false;
        *number = -left;
        return true;
    case AST_BINARY:
        return fold(tree->left, &left) && fold(tree->right, &right) &&
               apply_binary(binary_op(tree->sign), left, right, number);
    default:
        return false;
    }
}

static void emit(compiler *c, instruction next, size_t pops) {
    program *out = c->out;
    if (c->failed)
        return;
    if (out->length == out->capacity) {
        /* The old code stays in the arena until the whole arena goes. */
        size_t capacity = out->capacity ? out->capacity * 2 : 16;
        instruction *code = arena_alloc(c->memory, capacity * sizeof *code);
        if (code == NULL) {
            c->failed = true;
            return;
        }
        if (out->length != 0)
            memcpy(code, out->code, out->length * sizeof *code);
        out->code = code;
        out->capacity = capacity;
    }
    out->code[out->length++] = next;
    c->depth = c->depth - pops + 1;
    if (c->depth > out->deepest)
        out->deepest = c->depth;
}

static void compile(compiler *c, const ast *tree) {
    double number;
    if (fold(tree, &number)) {
        emit(c, (instruction){.op = OP_PUSH, .number = number}, 0);
        return;
    }
    switch (tree->kind) {
    case AST_NUMBER:
        break;
    case AST_VARIABLE:
        emit(c, (instruction){.op = OP_LOAD, .name = tree->name}, 0);
        break;
    case AST_ASSIGN:
        compile(c, tree->right);
        emit(c, (instruction){.op = OP_STORE, .name = tree->name}, 1);
        break;
    case AST_NEGATE:
        compile(c, tree->left);
        emit(c, (instruction){.op = OP_NEGATE}, 1);
        break;
    case AST_BINARY:
        compile(c, tree->left);
        compile(c, tree->right);
        emit(c, (instruction){.op = binary_op(tree->sign)}, 2);
        break;
    case AST_CALL:
        for (const ast *argument = tree->arguments; argument != NULL; argument = argument->next)
            compile(c, argument);
        emit(c, (instruction){.op = OP_CALL, .name = tree->name, .count = tree->argument_count},
             tree->argument_count);
        break;
    }
}

program *calc_compile(arena *a, const ast *tree) {
    compiler c = {.memory = a, .out = arena_zalloc(a, sizeof(program))};
    if (c.out == NULL)
        return NULL;
    compile(&c, tree);
    return c.failed ? NULL : c.out;
}
