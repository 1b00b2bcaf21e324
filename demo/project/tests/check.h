/* Checks that count themselves. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_TEXT(actual, expected) check_text((actual), (expected), __FILE__, __LINE__)

void check_that(bool holds, const char *what, const char *file, int line);
void check_text(const char *actual, const char *expected, const char *file, int line);
/* Runs one test and says how it went if it failed. */
void run_test(const char *name, void (*test)(void));
size_t tests_passed(void);
size_t tests_failed(void);

void test_base(void);
void test_algo(void);
void test_codec(void);
void test_json(void);
void test_calc(void);

#endif
