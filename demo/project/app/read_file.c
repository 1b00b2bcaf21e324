#include "app/read_file.h"

#include <stdio.h>
#include <string.h>

bool read_file(const char *path, buffer *out) {
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (file == NULL)
        return false;
    char chunk[4096];
    size_t size;
    while ((size = fread(chunk, 1, sizeof chunk, file)) > 0)
        buffer_append(out, chunk, size);
    bool ok = !ferror(file) && !out->failed;
    if (file != stdin)
        fclose(file);
    return ok;
}
