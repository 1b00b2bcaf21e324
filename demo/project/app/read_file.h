/* Whole files into memory. */
#ifndef APP_READ_FILE_H
#define APP_READ_FILE_H

#include "base/buffer.h"

/* "-" is standard input. false, and errno, when it cannot be read. */
bool read_file(const char *path, buffer *out);

#endif
