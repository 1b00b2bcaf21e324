#include <stdio.h>
#include <string.h>

#include "algo/edit_distance.h"
#include "app/commands.h"

static int usage(const char *unknown) {
    static const char *const known[] = {"calc", "json", "sum", "pack", "primes"};
    const char *near = unknown ? nearest_word(unknown, known, sizeof known / sizeof *known, 2) : NULL;
    if (near != NULL)
        fprintf(stderr, "toolbox: no command %s; is it %s?\n", unknown, near);
    fputs("usage: toolbox calc EXPRESSION... | json FILE | sum FILE | pack FILE | primes LIMIT\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return usage(argc > 1 ? argv[1] : NULL);
    const char *command = argv[1];
    if (strcmp(command, "calc") == 0)
        return command_calc(argc - 2, argv + 2);
    if (strcmp(command, "json") == 0)
        return command_json(argv[2]);
    if (strcmp(command, "sum") == 0)
        return command_sum(argv[2]);
    if (strcmp(command, "pack") == 0)
        return command_pack(argv[2]);
    if (strcmp(command, "primes") == 0)
        return command_primes(argv[2]);
    return usage(command);
}
