/* Trees to code, with constant folding. */
#ifndef CALC_COMPILER_H
#define CALC_COMPILER_H

#include "calc/ast.h"
#include "calc/program.h"

/* NULL when memory is exhausted. The program lives in the arena and refers to the names in the tree. */
program *calc_compile(arena *a, const ast *tree);

#endif
