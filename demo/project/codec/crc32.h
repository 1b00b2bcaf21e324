/* CRC-32 as in zip and PNG. */
#ifndef CODEC_CRC32_H
#define CODEC_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Start with crc = 0; feed the result back in to go on. */
uint32_t crc32_update(uint32_t crc, const void *bytes, size_t length);

#endif
