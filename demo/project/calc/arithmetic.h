/* What the operators mean, for the compiler and the machine alike. */
#ifndef CALC_ARITHMETIC_H
#define CALC_ARITHMETIC_H

#include <stdbool.h>

#include "calc/program.h"

/* false where there is no result: division by zero, or an operator that is not binary. */
bool apply_binary(op_code op, double left, double right, double *result);

#endif
