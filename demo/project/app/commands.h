/* What the tool can do. Each returns the exit code. */
#ifndef APP_COMMANDS_H
#define APP_COMMANDS_H

int command_calc(int count, char **expressions);
int command_json(const char *path);
int command_sum(const char *path);
int command_pack(const char *path);
int command_primes(const char *limit);

#endif
