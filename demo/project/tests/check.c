#include "tests/check.h"

#include <stdio.h>
#include <string.h>

static size_t passed, failed, failed_checks;

void check_that(bool holds, const char *what, const char *file, int line) {
    if (holds)
        return;
    failed_checks++;
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
}

void check_text(const char *actual, const char *expected, const char *file, int line) {
    if (actual != NULL && strcmp(actual, expected) == 0)
        return;
    failed_checks++;
    fprintf(stderr, "%s:%d: is \"%s\", must be \"%s\"\n", file, line, actual ? actual : "(none)", expected);
}

void run_test(const char *name, void (*test)(void)) {
    failed_checks = 0;
    test();
    if (failed_checks == 0) {
        passed++;
        return;
    }
    failed++;
    fprintf(stderr, "%s: %zu checks failed\n", name, failed_checks);
}

size_t tests_passed(void) {
    return passed;
}

size_t tests_failed(void) {
    return failed;
}
