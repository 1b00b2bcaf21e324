/* Text of an expression to tokens. */
#ifndef CALC_LEXER_H
#define CALC_LEXER_H

#include <stddef.h>

typedef enum {
    TOKEN_END,
    TOKEN_NUMBER,
    TOKEN_NAME,
    TOKEN_SIGN, /* an operator, a bracket, a comma or '=' */
    TOKEN_BAD,
} token_kind;

typedef struct {
    token_kind kind;
    const char *text;
    size_t length;
    double number; /* of TOKEN_NUMBER */
    char sign;     /* of TOKEN_SIGN */
} token;

typedef struct {
    const char *at;
} lexer;

void lexer_init(lexer *l, const char *text);
token lexer_next(lexer *l);

#endif
