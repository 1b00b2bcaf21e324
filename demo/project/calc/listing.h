/* Code as text, one instruction a line. */
#ifndef CALC_LISTING_H
#define CALC_LISTING_H

#include "base/buffer.h"
#include "calc/program.h"

void program_list(const program *code, buffer *out);

#endif
