/* The functions that expressions can call. */
#ifndef CALC_FUNCTIONS_H
#define CALC_FUNCTIONS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *name;
    size_t least, most; /* arguments */
    double (*apply)(const double *arguments, size_t count);
} function;

const function *function_find(const char *name);
/* The known name nearest to one that is not known; NULL when none is near. */
const char *function_suggest(const char *name);

#endif
