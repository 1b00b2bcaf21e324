#include "calc/machine.h"

#include <stdio.h>
#include <stdlib.h>

#include "calc/arithmetic.h"
#include "calc/functions.h"

void machine_init(machine *m) {
    map_init(&m->variables);
    arena_init(&m->values, 512);
    m->error[0] = '\0';
    machine_set(m, "pi", 3.14159265358979323846);
}

void machine_free(machine *m) {
    map_free(&m->variables);
    arena_release(&m->values);
}

bool machine_set(machine *m, const char *name, double value) {
    double *place = map_get(&m->variables, name);
    if (place == NULL) {
        place = arena_alloc(&m->values, sizeof *place);
        if (place == NULL || !map_put(&m->variables, name, place))
            return false;
    }
    *place = value;
    return true;
}

static bool call(machine *m, const instruction *step, double *stack, size_t *top) {
    const function *f = function_find(step->name);
    if (f == NULL) {
        const char *near = function_suggest(step->name);
        snprintf(m->error, sizeof m->error, "no function %.40s%s%s%s", step->name, near ? "; is it " : "",
                 near ? near : "", near ? "?" : "");
        return false;
    }
    if (step->count < f->least || step->count > f->most) {
        snprintf(m->error, sizeof m->error, "%s takes another number of arguments than %zu", f->name, step->count);
        return false;
    }
    *top -= step->count;
    stack[*top] = f->apply(stack + *top, step->count);
    ++*top;
    return true;
}

static bool run_step(machine *m, const instruction *step, double *stack, size_t *top) {
    const double *variable;
    switch (step->op) {
    case OP_PUSH:
        stack[(*top)++] = step->number;
        return true;
    case OP_LOAD:
        variable = map_get(&m->variables, step->name);
        if (variable == NULL) {
            snprintf(m->error, sizeof m->error, "no variable %.40s", step->name);
            return false;
        }
        stack[(*top)++] = *variable;
        return true;
    case OP_STORE:
        return machine_set(m, step->name, stack[*top - 1]);
    case OP_NEGATE:
        stack[*top - 1] = -stack[*top - 1];
        return true;
    case OP_CALL:
        return call(m, step, stack, top);
    default:
        --*top;
        if (apply_binary(step->op, stack[*top - 1], stack[*top], &stack[*top - 1]))
            return true;
        snprintf(m->error, sizeof m->error, "division by zero");
        return false;
    }
}

bool machine_run(machine *m, const program *code, double *result) {
    /* One more than the deepest: a call without arguments leaves its result where nothing was. */
    double *stack = calloc(code->deepest + 1, sizeof *stack);
    size_t top = 0;
    m->error[0] = '\0';
    if (stack == NULL)
        return false;
    bool ok = code->length != 0;
    for (size_t i = 0; ok && i < code->length; i++)
        ok = run_step(m, &code->code[i], stack, &top);
    if (ok)
        *result = stack[0];
    free(stack);
    return ok;
}
