#include <string.h>

#include "algo/random.h"
#include "codec/base64.h"
#include "codec/crc32.h"
#include "codec/hex.h"
#include "codec/lz.h"
#include "codec/sha256.h"
#include "codec/varint.h"
#include "tests/check.h"

static void hex_round_trips(void) {
    buffer text, back;
    buffer_init(&text);
    buffer_init(&back);
    hex_encode("\x00\x7f\xff", 3, &text);
    CHECK_TEXT(text.data, "007fff");
    CHECK(hex_decode(text.data, text.length, &back) && memcmp(back.data, "\x00\x7f\xff", 3) == 0);
    CHECK(!hex_decode("0", 1, &back) && !hex_decode("0g", 2, &back));
    buffer_free(&text);
    buffer_free(&back);
}

static void base64_matches_the_rfc(void) {
    static const char *const pairs[][2] = {{"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < 4; i++) {
        buffer text, back;
        buffer_init(&text);
        buffer_init(&back);
        base64_encode(pairs[i][0], strlen(pairs[i][0]), &text);
        CHECK_TEXT(text.data, pairs[i][1]);
        CHECK(base64_decode(text.data, text.length, &back));
        CHECK_TEXT(back.data, pairs[i][0]);
        buffer_free(&text);
        buffer_free(&back);
    }
}

static void base64_refuses_what_is_loose(void) {
    static const char *const bad[] = {"Zg", "Zg=a", "Zh==", "Zm 9", "=m9v"};
    for (size_t i = 0; i < 5; i++) {
        buffer out;
        buffer_init(&out);
        CHECK(!base64_decode(bad[i], strlen(bad[i]), &out));
        buffer_free(&out);
    }
}

static void crc32_matches_the_check_value(void) {
    CHECK(crc32_update(0, "123456789", 9) == 0xcbf43926);
    CHECK(crc32_update(crc32_update(0, "12345", 5), "6789", 4) == 0xcbf43926);
}

static void sha_text(const char *input, size_t repeat, buffer *out) {
    sha256 s;
    unsigned char digest[SHA256_SIZE];
    sha256_init(&s);
    for (size_t i = 0; i < repeat; i++)
        sha256_update(&s, input, strlen(input));
    sha256_final(&s, digest);
    buffer_clear(out);
    hex_encode(digest, sizeof digest, out);
}

static void sha256_matches_the_standard(void) {
    buffer out;
    buffer_init(&out);
    sha_text("", 1, &out);
    CHECK_TEXT(out.data, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha_text("abc", 1, &out);
    CHECK_TEXT(out.data, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha_text("aaaaaaaaaa", 100000, &out);
    CHECK_TEXT(out.data, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    buffer_free(&out);
}

static void varint_round_trips(void) {
    static const uint64_t values[] = {0, 1, 127, 128, 300, UINT64_MAX};
    for (size_t i = 0; i < 6; i++) {
        buffer b;
        uint64_t back;
        buffer_init(&b);
        varint_write(values[i], &b);
        CHECK(varint_read(b.data, b.length, &back) == b.length && back == values[i]);
        CHECK(varint_read(b.data, b.length - 1, &back) == 0);
        buffer_free(&b);
    }
    CHECK(zigzag(-1) == 1 && zigzag(1) == 2);
    CHECK(unzigzag(zigzag(INT64_MIN)) == INT64_MIN && unzigzag(zigzag(INT64_MAX)) == INT64_MAX);
}

static bool lz_survives(const void *bytes, size_t length, size_t *packed_size) {
    buffer packed, back;
    buffer_init(&packed);
    buffer_init(&back);
    bool same = lz_compress(bytes, length, &packed) && lz_decompress(packed.data, packed.length, length, &back) &&
                back.length == length && (length == 0 || memcmp(back.data, bytes, length) == 0);
    *packed_size = packed.length;
    buffer_free(&packed);
    buffer_free(&back);
    return same;
}

static void lz_round_trips_and_shrinks(void) {
    char text[4000];
    size_t size;
    random_source r;
    random_seed(&r, 3);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)random_next(&r);
    CHECK(lz_survives(text, sizeof text, &size));
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "the quick brown fox "[i % 20];
    CHECK(lz_survives(text, sizeof text, &size) && size < 100);
    CHECK(lz_survives("", 0, &size) && lz_survives("abc", 3, &size));
}

static void lz_refuses_broken_streams(void) {
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {
        {"", 0},             /* no length */
        {"\x05\x0a" "ab", 4},  /* literals end early */
        {"\x05\x0b\x01", 3}, /* a copy from before the beginning */
        {"\x05\x04" "ab", 4},  /* shorter than promised */
        {"\x7f\x02" "a", 3},   /* above the limit */
    };
    for (size_t i = 0; i < 5; i++) {
        buffer out;
        buffer_init(&out);
        CHECK(!lz_decompress(bad[i].bytes, bad[i].length, 100, &out));
        buffer_free(&out);
    }
}

void test_codec(void) {
    run_test("hex_round_trips", hex_round_trips);
    run_test("base64_matches_the_rfc", base64_matches_the_rfc);
    run_test("base64_refuses_what_is_loose", base64_refuses_what_is_loose);
    run_test("crc32_matches_the_check_value", crc32_matches_the_check_value);
    run_test("sha256_matches_the_standard", sha256_matches_the_standard);
    run_test("varint_round_trips", varint_round_trips);
    run_test("lz_round_trips_and_shrinks", lz_round_trips_and_shrinks);
    run_test("lz_refuses_broken_streams", lz_refuses_broken_streams);
}
