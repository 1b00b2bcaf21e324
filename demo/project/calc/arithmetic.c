#include "calc/arithmetic.h"

#include <math.h>

bool apply_binary(op_code op, double left, double right, double *result) {
    switch (op) {
    case OP_ADD:
        *result = left + right;
        return true;
    case OP_SUBTRACT:
        *result = left - right;
        return true;
    case OP_MULTIPLY:
        *result = left * right;
        return true;
    case OP_DIVIDE:
        *result = right != 0 ? left / right : 0;
        return right != 0;
    case OP_REMAINDER:
        *result = right != 0 ? fmod(left, right) : 0;
        return right != 0;
    case OP_POWER:
        *result = pow(left, right);
        return true;
    case OP_LESS:
        *result = left < right;
        return true;
    case OP_GREATER:
        *result = left > right;
        return true;
    default:
        return false;
    }
}
