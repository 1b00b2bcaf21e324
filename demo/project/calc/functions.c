#include "calc/functions.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "algo/edit_distance.h"

static double apply_sqrt(const double *a, size_t count) {
    (void)count;
    return sqrt(a[0]);
}

static double apply_abs(const double *a, size_t count) {
    (void)count;
    return fabs(a[0]);
}

static double apply_floor(const double *a, size_t count) {
    (void)count;
    return floor(a[0]);
}

static double apply_hypot(const double *a, size_t count) {
    (void)count;
    return hypot(a[0], a[1]);
}

static double apply_if(const double *a, size_t count) {
    (void)count;
    return a[0] != 0 ? a[1] : a[2];
}

static double apply_min(const double *a, size_t count) {
    double result = a[0];
    for (size_t i = 1; i < count; i++)
        result = fmin(result, a[i]);
    return result;
}

static double apply_max(const double *a, size_t count) {
    double result = a[0];
    for (size_t i = 1; i < count; i++)
        result = fmax(result, a[i]);
    return result;
}

static double apply_sum(const double *a, size_t count) {
    double result = 0;
    for (size_t i = 0; i < count; i++)
        result += a[i];
    return result;
}

static const function functions[] = {
    {"abs", 1, 1, apply_abs}, {"floor", 1, 1, apply_floor},     {"hypot", 2, 2, apply_hypot},
    {"if", 3, 3, apply_if},   {"max", 1, SIZE_MAX, apply_max},  {"min", 1, SIZE_MAX, apply_min},
    {"sqrt", 1, 1, apply_sqrt}, {"sum", 0, SIZE_MAX, apply_sum},
};

enum { COUNT = sizeof functions / sizeof *functions };

const function *function_find(const char *name) {
    for (size_t i = 0; i < COUNT; i++) {
        if (strcmp(functions[i].name, name) == 0)
            return &functions[i];
    }
    return NULL;
}

const char *function_suggest(const char *name) {
    const char *names[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        names[i] = functions[i].name;
    return nearest_word(name, names, COUNT, 2);
}
