#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/utf8.h"
#include "tests/check.h"

static void arena_memory_is_aligned_and_distinct(void) {
    arena a;
    arena_init(&a, 64);
    char *first = arena_alloc(&a, 3), *second = arena_alloc(&a, 3), *large = arena_alloc(&a, 1000);
    CHECK((uintptr_t)second % sizeof(double) == 0);
    CHECK(second >= first + 3);
    CHECK(large != NULL && a.used == 1006);
    memset(large, 1, 1000);
    CHECK_TEXT(arena_strndup(&a, "hello", 4), "hell");
    arena_release(&a);
    CHECK(a.used == 0);
}

static void buffer_grows_and_formats(void) {
    buffer b;
    buffer_init(&b);
    for (int i = 0; i < 100; i++)
        buffer_printf(&b, "%d,", i);
    CHECK(b.length == 290);
    buffer_clear(&b);
    buffer_text(&b, "a");
    buffer_byte(&b, 'b');
    CHECK_TEXT(b.data, "ab");
    buffer_free(&b);
}

static void hash_is_fnv1a(void) {
    CHECK(hash_bytes("", 0) == UINT64_C(0xcbf29ce484222325));
    CHECK(hash_bytes("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
}

static void map_finds_what_was_put(void) {
    map m;
    char key[16];
    static int values[500];
    map_init(&m);
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "key%d", i);
        CHECK(map_put(&m, key, &values[i]));
    }
    CHECK(m.count == 500);
    CHECK(map_get(&m, "key123") == &values[123]);
    CHECK(map_get(&m, "key500") == NULL);
    CHECK(map_put(&m, "key7", NULL) && m.count == 500);
    CHECK(map_has(&m, "key7") && map_get(&m, "key7") == NULL);
    map_free(&m);
}

static void map_forgets_what_was_removed(void) {
    map m;
    const char *key;
    void *value;
    size_t cursor = 0, seen = 0;
    int x;
    map_init(&m);
    for (int round = 0; round < 100; round++) {
        CHECK(map_put(&m, "a", &x) && map_put(&m, "b", &x));
        CHECK(map_remove(&m, "a") && !map_remove(&m, "a"));
    }
    CHECK(!map_has(&m, "a") && map_get(&m, "b") == &x);
    while (map_next(&m, &cursor, &key, &value)) {
        CHECK_TEXT(key, "b");
        seen++;
    }
    CHECK(seen == 1);
    map_free(&m);
}

static void utf8_round_trips(void) {
    static const uint32_t points[] = {0x24, 0xA2, 0x20AC, 0x10348, 0x10FFFF};
    char bytes[4];
    for (size_t i = 0; i < 5; i++) {
        uint32_t back = 0;
        size_t size = utf8_encode(points[i], bytes);
        CHECK(size == utf8_decode(bytes, size, &back) && back == points[i]);
    }
    CHECK(utf8_encode(0xD800, bytes) == 0);
    CHECK(!utf8_valid("\xC0\x80", 2));
    CHECK(!utf8_valid("\xE2\x82", 2));
    CHECK(utf8_count("na\xC3\xAFve", 6) == 5);
}

void test_base(void) {
    run_test("arena_memory_is_aligned_and_distinct", arena_memory_is_aligned_and_distinct);
    run_test("buffer_grows_and_formats", buffer_grows_and_formats);
    run_test("hash_is_fnv1a", hash_is_fnv1a);
    run_test("map_finds_what_was_put", map_finds_what_was_put);
    run_test("map_forgets_what_was_removed", map_forgets_what_was_removed);
    run_test("utf8_round_trips", utf8_round_trips);
}
