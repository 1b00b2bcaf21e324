/* The stack machine that runs compiled expressions. */
#ifndef CALC_MACHINE_H
#define CALC_MACHINE_H

#include <stdbool.h>

#include "base/map.h"
#include "calc/program.h"

typedef struct {
    map variables; /* name -> double in `values` */
    arena values;
    char error[128]; /* what went wrong in the last run */
} machine;

void machine_init(machine *m);
void machine_free(machine *m);
/* Variables live on from run to run. */
bool machine_run(machine *m, const program *code, double *result);
bool machine_set(machine *m, const char *name, double value);

#endif
