#include <stdint.h>

#include "algo/bitset.h"
#include "algo/edit_distance.h"
#include "algo/heap.h"
#include "algo/random.h"
#include "algo/sieve.h"
#include "algo/sort.h"
#include "tests/check.h"

static int by_tens(const void *left, const void *right) {
    int a = *(const int *)left / 10, b = *(const int *)right / 10;
    return (a > b) - (a < b);
}

static void sort_keeps_equal_items_in_order(void) {
    int items[1000];
    random_source r;
    random_seed(&r, 1);
    for (int i = 0; i < 1000; i++)
        items[i] = (int)random_below(&r, 50) * 10 + i % 10;
    unsigned before[50] = {0}, after[50] = {0};
    for (int i = 0; i < 1000; i++)
        before[items[i] / 10] = before[items[i] / 10] * 31u + (unsigned)(items[i] % 10);
    CHECK(sort_stable(items, 1000, sizeof *items, by_tens));
    CHECK(is_sorted(items, 1000, sizeof *items, by_tens));
    for (int i = 0; i < 1000; i++)
        after[items[i] / 10] = after[items[i] / 10] * 31u + (unsigned)(items[i] % 10);
    for (int i = 0; i < 50; i++)
        CHECK(before[i] == after[i]);
}

static void lower_bound_finds_the_first(void) {
    int items[] = {10, 20, 20, 20, 40};
    int twenty = 20, thirty = 30, ninety = 90;
    CHECK(lower_bound(items, 5, sizeof *items, &twenty, by_tens) == 1);
    CHECK(lower_bound(items, 5, sizeof *items, &thirty, by_tens) == 4);
    CHECK(lower_bound(items, 5, sizeof *items, &ninety, by_tens) == 5);
}

static void heap_gives_the_smallest_first(void) {
    heap h;
    heap_entry entry;
    random_source r;
    int64_t last = 0;
    heap_init(&h);
    random_seed(&r, 7);
    for (int i = 0; i < 300; i++)
        CHECK(heap_push(&h, (int64_t)random_below(&r, 1000), NULL));
    for (int i = 0; i < 300; i++) {
        CHECK(heap_pop(&h, &entry) && entry.priority >= last);
        last = entry.priority;
    }
    CHECK(!heap_pop(&h, &entry));
    heap_free(&h);
}

static void bitset_holds_its_members(void) {
    bitset s;
    CHECK(bitset_init(&s, 300));
    bitset_set(&s, 0, true);
    bitset_set(&s, 64, true);
    bitset_set(&s, 299, true);
    bitset_set(&s, 300, true);
    CHECK(bitset_count(&s) == 3);
    CHECK(bitset_next(&s, 1) == 64 && bitset_next(&s, 65) == 299);
    bitset_set(&s, 64, false);
    CHECK(!bitset_has(&s, 64) && bitset_next(&s, 1) == 299);
    bitset_free(&s);
}

static void sieve_finds_the_primes(void) {
    bitset primes;
    CHECK(sieve(&primes, 10000));
    CHECK(bitset_count(&primes) == 1229);
    CHECK(bitset_has(&primes, 9973) && !bitset_has(&primes, 9999));
    bitset_free(&primes);
}

static void random_is_the_same_for_a_seed(void) {
    random_source a, b;
    int items[] = {0, 1, 2, 3, 4, 5, 6, 7}, sum = 0;
    random_seed(&a, 42);
    random_seed(&b, 42);
    for (int i = 0; i < 100; i++)
        CHECK(random_next(&a) == random_next(&b));
    random_shuffle(&a, items, 8);
    for (int i = 0; i < 8; i++)
        sum += items[i];
    CHECK(sum == 28);
}

static void distance_counts_edits(void) {
    static const char *const words[] = {"build", "test", "clean"};
    CHECK(edit_distance("kitten", "sitting") == 3);
    CHECK(edit_distance("", "abc") == 3 && edit_distance("abc", "") == 3);
    CHECK_TEXT(nearest_word("tset", words, 3, 2), "test");
    CHECK(nearest_word("deploy", words, 3, 2) == NULL);
}

void test_algo(void) {
    run_test("sort_keeps_equal_items_in_order", sort_keeps_equal_items_in_order);
    run_test("lower_bound_finds_the_first", lower_bound_finds_the_first);
    run_test("heap_gives_the_smallest_first", heap_gives_the_smallest_first);
    run_test("bitset_holds_its_members", bitset_holds_its_members);
    run_test("sieve_finds_the_primes", sieve_finds_the_primes);
    run_test("random_is_the_same_for_a_seed", random_is_the_same_for_a_seed);
    run_test("distance_counts_edits", distance_counts_edits);
}
