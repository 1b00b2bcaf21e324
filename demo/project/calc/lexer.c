#include "calc/lexer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

void lexer_init(lexer *l, const char *text) {
    l->at = text;
}

static int is_name(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

token lexer_next(lexer *l) {
    while (isspace((unsigned char)*l->at))
        l->at++;
    token t = {.kind = TOKEN_BAD, .text = l->at, .length = 1};
    if (*l->at == '\0') {
        t.kind = TOKEN_END;
        t.length = 0;
    } else if (isdigit((unsigned char)*l->at) || (*l->at == '.' && isdigit((unsigned char)l->at[1]))) {
        char *end;
        t.kind = TOKEN_NUMBER;
        t.number = strtod(l->at, &end);
        t.length = (size_t)(end - l->at);
    } else if (is_name(*l->at)) {
        t.kind = TOKEN_NAME;
        while (is_name(l->at[t.length]))
            t.length++;
    } else if (strchr("+-*/%^()=,<>", *l->at) != NULL) {
        t.kind = TOKEN_SIGN;
        t.sign = *l->at;
    }
    l->at += t.length;
    return t;
}
