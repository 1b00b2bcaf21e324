#include <math.h>

#include "base/buffer.h"
#include "calc/compiler.h"
#include "calc/listing.h"
#include "calc/machine.h"
#include "calc/parser.h"
#include "tests/check.h"

/* NAN when there is no result; the machine then says why. */
static double evaluate(machine *m, const char *text) {
    arena a;
    calc_error error;
    double result = NAN;
    arena_init(&a, 0);
    ast *tree = calc_parse(&a, text, &error);
    program *code = tree != NULL ? calc_compile(&a, tree) : NULL;
    if (code == NULL || !machine_run(m, code, &result))
        result = NAN;
    arena_release(&a);
    return result;
}

static void expect_error(const char *text, const char *message, size_t column) {
    arena a;
    calc_error error;
    arena_init(&a, 0);
    CHECK(calc_parse(&a, text, &error) == NULL);
    CHECK_TEXT(error.message, message);
    CHECK(error.column == column);
    arena_release(&a);
}

static void operators_bind_as_in_school(void) {
    machine m;
    machine_init(&m);
    CHECK(evaluate(&m, "1 + 2 * 3") == 7);
    CHECK(evaluate(&m, "(1 + 2) * 3") == 9);
    CHECK(evaluate(&m, "10 - 4 - 3") == 3);
    CHECK(evaluate(&m, "2 ^ 3 ^ 2") == 512);
    CHECK(evaluate(&m, "-2 ^ 2") == -4);
    CHECK(evaluate(&m, "7 % 4 + .5") == 3.5);
    CHECK(evaluate(&m, "1 + 1 > 1") == 1 && evaluate(&m, "2 < 1") == 0);
    machine_free(&m);
}

static void variables_live_on(void) {
    machine m;
    machine_init(&m);
    CHECK(evaluate(&m, "x = 6") == 6);
    CHECK(evaluate(&m, "y = x * 7") == 42);
    CHECK(evaluate(&m, "x = x + 1") == 7 && evaluate(&m, "x") == 7);
    CHECK(fabs(evaluate(&m, "floor(pi * 100)") - 314) < 1e-9);
    CHECK(isnan(evaluate(&m, "z")));
    CHECK_TEXT(m.error, "no variable z");
    machine_free(&m);
}

static void functions_take_arguments(void) {
    machine m;
    machine_init(&m);
    CHECK(evaluate(&m, "hypot(3, 4)") == 5);
    CHECK(evaluate(&m, "max(1, min(9, 5), 3)") == 5);
    CHECK(evaluate(&m, "sum() + sum(1, 2, 3)") == 6);
    CHECK(evaluate(&m, "if(2 > 1, abs(-8), sqrt(16))") == 8);
    CHECK(isnan(evaluate(&m, "sqrt(1, 2)")));
    CHECK_TEXT(m.error, "sqrt takes another number of arguments than 2");
    CHECK(isnan(evaluate(&m, "sqr(1)")));
    CHECK_TEXT(m.error, "no function sqr; is it sqrt?");
    machine_free(&m);
}

static void division_by_zero_is_an_error(void) {
    machine m;
    machine_init(&m);
    CHECK(isnan(evaluate(&m, "1 / (2 - 2)")));
    CHECK_TEXT(m.error, "division by zero");
    CHECK(evaluate(&m, "1") == 1);
    machine_free(&m);
}

static void syntax_errors_have_a_place(void) {
    expect_error("1 +", "a number, a name or '(' was expected", 4);
    expect_error("(1", "')' was expected", 3);
    expect_error("1 2", "an operator was expected", 3);
    expect_error("f(1", "',' or ')' was expected", 4);
    expect_error("1 = 2", "only a name can be assigned to", 5);
    expect_error("a $ b", "an operator was expected", 3);
}

static void constants_are_folded(void) {
    arena a;
    calc_error error;
    buffer out;
    arena_init(&a, 0);
    buffer_init(&out);
    ast *tree = calc_parse(&a, "y = x * (2 + 3) - max(1, 4 / 2)", &error);
    program *code = tree != NULL ? calc_compile(&a, tree) : NULL;
    if (code != NULL)
        program_list(code, &out);
    CHECK_TEXT(out.data, "load x\npush 5\nmultiply\npush 1\npush 2\ncall max 2\nsubtract\nstore y\n");
    CHECK(code != NULL && code->deepest == 3);
    buffer_free(&out);
    arena_release(&a);
}

void test_calc(void) {
    run_test("operators_bind_as_in_school", operators_bind_as_in_school);
    run_test("variables_live_on", variables_live_on);
    run_test("functions_take_arguments", functions_take_arguments);
    run_test("division_by_zero_is_an_error", division_by_zero_is_an_error);
    run_test("syntax_errors_have_a_place", syntax_errors_have_a_place);
    run_test("constants_are_folded", constants_are_folded);
}
