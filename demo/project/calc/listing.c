#include "calc/listing.h"

static const char *const names[] = {
    [OP_PUSH] = "push",         [OP_LOAD] = "load",         [OP_STORE] = "store",   [OP_CALL] = "call",
    [OP_NEGATE] = "negate",     [OP_ADD] = "add",           [OP_SUBTRACT] = "subtract",
    [OP_MULTIPLY] = "multiply", [OP_DIVIDE] = "divide",     [OP_REMAINDER] = "remainder",
    [OP_POWER] = "power",       [OP_LESS] = "less",         [OP_GREATER] = "greater",
};

void program_list(const program *code, buffer *out) {
    for (size_t i = 0; i < code->length; i++) {
        const instruction *step = &code->code[i];
        buffer_text(out, names[step->op]);
        if (step->op == OP_PUSH)
            buffer_printf(out, " %g", step->number);
        if (step->name != NULL)
            buffer_printf(out, " %s", step->name);
        if (step->op == OP_CALL)
            buffer_printf(out, " %zu", step->count);
        buffer_byte(out, '\n');
    }
}
