#include <string.h>

#include "json/parse.h"
#include "json/write.h"
#include "tests/check.h"

static void expect_rewritten(const char *text, const char *expected) {
    arena a;
    json_error error;
    buffer out;
    arena_init(&a, 0);
    buffer_init(&out);
    json_value *value = json_parse(&a, text, strlen(text), &error);
    CHECK_TEXT(error.message ? error.message : "", "");
    if (value != NULL) {
        json_write(value, 0, &out);
        CHECK_TEXT(out.data, expected);
    }
    buffer_free(&out);
    arena_release(&a);
}

static void documents_round_trip(void) {
    expect_rewritten(" { \"a\" : [ 1 , 2.5, -3e2 ], \"b\":{} } ", "{\"a\":[1,2.5,-300],\"b\":{}}");
    expect_rewritten("[true,false,null]", "[true,false,null]");
    expect_rewritten("\"\\u00e9\\ud83d\\ude00\\n\"", "\"\xC3\xA9\xF0\x9F\x98\x80\\n\"");
    expect_rewritten("[]", "[]");
}

static void errors_have_a_place(void) {
    arena a;
    json_error error;
    const char *text = "{\n  \"a\": [1, 2,]\n}";
    arena_init(&a, 0);
    CHECK(json_parse(&a, text, strlen(text), &error) == NULL);
    CHECK(error.line == 2 && error.column == 14);
    CHECK_TEXT(error.message, "a value was expected");
    arena_release(&a);
}

static void broken_documents_are_refused(void) {
    static const char *const bad[] = {"",       "[1",     "{\"a\"}", "01",        "1.",         "\"\\x\"", "nul",
                                      "[1] 2",  "\"\x01\"", "\"a",    "\"\\ud800\"", "\"\xFF\"", "{a:1}",   "-"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        arena a;
        json_error error;
        arena_init(&a, 0);
        CHECK(json_parse(&a, bad[i], strlen(bad[i]), &error) == NULL && error.message != NULL);
        arena_release(&a);
    }
}

static void deep_nesting_is_refused(void) {
    arena a;
    json_error error;
    char text[1000];
    arena_init(&a, 0);
    memset(text, '[', sizeof text);
    CHECK(json_parse(&a, text, sizeof text, &error) == NULL);
    CHECK_TEXT(error.message, "nested too deep");
    arena_release(&a);
}

static void members_and_equality(void) {
    static const char left_text[] = "{\"a\":1,\"b\":[\"x\",true]}", right_text[] = "{\"b\":[\"x\",true],\"a\":1}";
    arena a;
    json_error error;
    arena_init(&a, 0);
    json_value *left = json_parse(&a, left_text, sizeof left_text - 1, &error);
    json_value *right = json_parse(&a, right_text, sizeof right_text - 1, &error);
    CHECK(left != NULL && right != NULL && json_equal(left, right));
    CHECK(left != NULL && json_member(left, "a")->as.number == 1 && json_member(left, "c") == NULL);
    CHECK(left != NULL && json_element(json_member(left, "b"), 1)->as.boolean);
    CHECK(left != NULL && !json_equal(json_member(left, "a"), json_member(left, "b")));
    arena_release(&a);
}

static void pretty_printing_indents(void) {
    arena a;
    json_error error;
    buffer out;
    arena_init(&a, 0);
    buffer_init(&out);
    json_value *value = json_parse(&a, "{\"a\":[1,2]}", 11, &error);
    if (value != NULL)
        json_write(value, 2, &out);
    CHECK_TEXT(out.data, "{\n  \"a\": [\n    1,\n    2\n  ]\n}");
    buffer_free(&out);
    arena_release(&a);
}

void test_json(void) {
    run_test("documents_round_trip", documents_round_trip);
    run_test("errors_have_a_place", errors_have_a_place);
    run_test("broken_documents_are_refused", broken_documents_are_refused);
    run_test("deep_nesting_is_refused", deep_nesting_is_refused);
    run_test("members_and_equality", members_and_equality);
    run_test("pretty_printing_indents", pretty_printing_indents);
}
