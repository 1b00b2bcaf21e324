#include "app/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "algo/sieve.h"
#include "app/read_file.h"
#include "calc/compiler.h"
#include "calc/machine.h"
#include "calc/parser.h"
#include "codec/crc32.h"
#include "codec/hex.h"
#include "codec/lz.h"
#include "codec/sha256.h"
#include "json/parse.h"
#include "json/write.h"

static bool load(const char *path, buffer *content) {
    buffer_init(content);
    if (read_file(path, content))
        return true;
    fprintf(stderr, "toolbox: %s: %s\n", path, strerror(errno));
    buffer_free(content);
    return false;
}

static bool calculate(machine *m, const char *expression) {
    arena memory;
    calc_error error;
    double result;
    arena_init(&memory, 0);
    ast *tree = calc_parse(&memory, expression, &error);
    program *code = tree != NULL ? calc_compile(&memory, tree) : NULL;
    bool ok = code != NULL && machine_run(m, code, &result);
    if (ok)
        printf("%.15g\n", result);
    else if (error.message != NULL)
        fprintf(stderr, "toolbox: column %zu: %s\n", error.column, error.message);
    else
        fprintf(stderr, "toolbox: %s\n", m->error[0] ? m->error : "out of memory");
    arena_release(&memory);
    return ok;
}

int command_calc(int count, char **expressions) {
    machine m;
    bool ok = true;
    machine_init(&m);
    for (int i = 0; ok && i < count; i++)
        ok = calculate(&m, expressions[i]);
    machine_free(&m);
    return ok ? 0 : 1;
}

int command_json(const char *path) {
    buffer text, out;
    arena memory;
    json_error error;
    if (!load(path, &text))
        return 1;
    arena_init(&memory, 0);
    buffer_init(&out);
    json_value *value = json_parse(&memory, text.data ? text.data : "", text.length, &error);
    if (value != NULL) {
        json_write(value, 2, &out);
        puts(out.data);
    } else {
        fprintf(stderr, "toolbox: %s:%zu:%zu: %s\n", path, error.line, error.column, error.message);
    }
    buffer_free(&out);
    buffer_free(&text);
    arena_release(&memory);
    return value != NULL ? 0 : 1;
}

int command_sum(const char *path) {
    buffer content, hex;
    if (!load(path, &content))
        return 1;
    sha256 s;
    unsigned char digest[SHA256_SIZE];
    sha256_init(&s);
    sha256_update(&s, content.data, content.length);
    sha256_final(&s, digest);
    buffer_init(&hex);
    hex_encode(digest, sizeof digest, &hex);
    printf("sha256 %s\ncrc32 %08x\n", hex.data, (unsigned)crc32_update(0, content.data, content.length));
    buffer_free(&hex);
    buffer_free(&content);
    return 0;
}

int command_pack(const char *path) {
    buffer content, packed;
    if (!load(path, &content))
        return 1;
    buffer_init(&packed);
    bool ok = lz_compress(content.data, content.length, &packed);
    if (ok)
        fwrite(packed.data, 1, packed.length, stdout);
    buffer_free(&packed);
    buffer_free(&content);
    return ok ? 0 : 1;
}

int command_primes(const char *limit) {
    bitset primes;
    if (!sieve(&primes, (size_t)strtoul(limit, NULL, 10)))
        return 1;
    for (size_t p = bitset_next(&primes, 0); p < primes.size; p = bitset_next(&primes, p + 1))
        printf("%zu\n", p);
    bitset_free(&primes);
    return 0;
}
