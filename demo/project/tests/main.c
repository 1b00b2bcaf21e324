#include <stdio.h>

#include "tests/check.h"

int main(void) {
    test_base();
    test_algo();
    test_codec();
    test_json();
    test_calc();
    printf("%zu tests passed\n", tests_passed());
    if (tests_failed() != 0)
        printf("%zu tests failed\n", tests_failed());
    return tests_failed() != 0;
}
