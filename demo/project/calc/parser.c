#include "calc/parser.h"

#include <stdbool.h>

#include "calc/lexer.h"

enum { DEEPEST = 200, POWER = 5, SIGN = 4 };

typedef struct {
    arena *memory;
    lexer lexer;
    token now;
    const char *start;
    calc_error error;
    int depth;
} parser;

static ast *parse_binary(parser *p, int weakest);

static ast *fail(parser *p, const char *message) {
    if (p->error.message == NULL)
        p->error = (calc_error){message, (size_t)(p->now.text - p->start) + 1};
    return NULL;
}

static void advance(parser *p) {
    p->now = lexer_next(&p->lexer);
}

static bool accept(parser *p, char sign) {
    if (p->now.kind != TOKEN_SIGN || p->now.sign != sign)
        return false;
    advance(p);
    return true;
}

static int precedence(const token *t) {
    if (t->kind != TOKEN_SIGN)
        return 0;
    switch (t->sign) {
    case '<':
    case '>':
        return 1;
    case '+':
    case '-':
        return 2;
    case '*':
    case '/':
    case '%':
        return 3;
    case '^':
        return POWER;
    default:
        return 0;
    }
}

static ast *make(parser *p, ast_kind kind) {
    ast *node = arena_zalloc(p->memory, sizeof *node);
    if (node == NULL)
        return fail(p, "out of memory");
    node->kind = kind;
    return node;
}

static ast *parse_arguments(parser *p, ast *call) {
    ast **end = &call->arguments;
    if (accept(p, ')'))
        return call;
    do {
        *end = parse_binary(p, 1);
        if (*end == NULL)
            return NULL;
        end = &(*end)->next;
        call->argument_count++;
    } while (accept(p, ','));
    return accept(p, ')') ? call : fail(p, "',' or ')' was expected");
}

static ast *parse_name(parser *p) {
    ast *node = make(p, AST_VARIABLE);
    if (node == NULL)
        return NULL;
    node->name = arena_strndup(p->memory, p->now.text, p->now.length);
    if (node->name == NULL)
        return fail(p, "out of memory");
    advance(p);
    if (!accept(p, '('))
        return node;
    node->kind = AST_CALL;
    return parse_arguments(p, node);
}

static ast *parse_primary(parser *p) {
    ast *node;
    switch (p->now.kind) {
    case TOKEN_NUMBER:
        node = make(p, AST_NUMBER);
        if (node != NULL)
            node->number = p->now.number;
        advance(p);
        return node;
    case TOKEN_NAME:
        return parse_name(p);
    default:
        break;
    }
    if (accept(p, '-')) {
        ast *operand = parse_binary(p, SIGN);
        node = operand != NULL ? make(p, AST_NEGATE) : NULL;
        if (node != NULL)
            node->left = operand;
        return node;
    }
    if (!accept(p, '('))
        return fail(p, "a number, a name or '(' was expected");
    node = parse_binary(p, 1);
    if (node == NULL)
        return NULL;
    return accept(p, ')') ? node : fail(p, "')' was expected");
}

static ast *parse_binary(parser *p, int weakest) {
    if (++p->depth > DEEPEST)
        return fail(p, "nested too deep");
    ast *left = parse_primary(p);
    while (left != NULL && precedence(&p->now) >= weakest) {
        int strength = precedence(&p->now);
        char sign = p->now.sign;
        advance(p);
        ast *right = parse_binary(p, sign == '^' ? POWER : strength + 1);
        ast *node = right != NULL ? make(p, AST_BINARY) : NULL;
        if (node != NULL) {
            node->sign = sign;
            node->left = left;
            node->right = right;
        }
        left = node;
    }
    p->depth--;
    return left;
}

ast *calc_parse(arena *a, const char *text, calc_error *error) {
    parser p = {.memory = a, .start = text};
    lexer_init(&p.lexer, text);
    advance(&p);
    ast *tree = parse_binary(&p, 1);
    if (tree != NULL && accept(&p, '=')) {
        if (tree->kind != AST_VARIABLE) {
            tree = fail(&p, "only a name can be assigned to");
        } else {
            tree->kind = AST_ASSIGN;
            tree->right = parse_binary(&p, 1);
            tree = tree->right != NULL ? tree : NULL;
        }
    }
    if (tree != NULL && p.now.kind != TOKEN_END)
        tree = fail(&p, "an operator was expected");
    *error = p.error;
    return tree;
}
