/* SHA-256 (FIPS 180-4). */
#ifndef CODEC_SHA256_H
#define CODEC_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_SIZE = 32, SHA256_BLOCK = 64 };

typedef struct {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    unsigned char block[SHA256_BLOCK];
} sha256;

void sha256_init(sha256 *s);
void sha256_update(sha256 *s, const void *bytes, size_t length);
void sha256_final(sha256 *s, unsigned char digest[SHA256_SIZE]);

#endif
