/* Starts the program of this file's name: DIRECTORY/bin/NAME runs what is in DIRECTORY, wherever that is.
 *
 * Linked statically: the image around needs no shell and no C library. The program gets the loader and the
 * libraries of DIRECTORY, and none that the image's environment names. Actions see nothing of what is set here:
 * the bot gives them an environment of their own.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

extern char **environ;

static char home[PATH_MAX];

static void fail(const char *what) {
  perror(what);
  exit(127);
}

static char *below_home(const char *path) {
  char *whole;
  if (asprintf(&whole, "%s/%s", home, path) < 0)
    fail("buildgrid-bot: out of memory");
  return whole;
}

/* Fills `home`, and returns the name of this file there, whatever link it was started by. */
static const char *find_home(void) {
  const char *started = (const char *)getauxval(AT_EXECFN);
  if (started == NULL || realpath(started, home) == NULL)
    fail("buildgrid-bot: where it is cannot be found out");
  char *name = strrchr(home, '/');
  *name++ = '\0';
  char *bin = strrchr(home, '/');
  if (bin == NULL) {
    fprintf(stderr, "buildgrid-bot: %s is not in a directory bin\n", started);
    exit(127);
  }
  *bin = '\0';
  return name;
}

/* The image's LD_PRELOAD may be of another C library; its Python settings are not read (-I). */
static void forget_settings_of_the_loader(void) {
  for (char **each = environ; each != NULL && *each != NULL;) {
    char *end = strchr(*each, '=');
    if (end == NULL || strncmp(*each, "LD_", 3) != 0) {
      each++;
      continue;
    }
    char *name = strndup(*each, (size_t)(end - *each));
    if (name == NULL || unsetenv(name) != 0)
      fail("buildgrid-bot: the environment cannot be changed");
    free(name);
  }
  unsetenv("GLIBC_TUNABLES");
}

static void set(const char *name, const char *value) {
  if (setenv(name, value, 1) != 0)
    fail("buildgrid-bot: the environment cannot be changed");
}

/* PATH ends with bin, whose bwrap is for images that have none. */
static void set_environment_of_the_bot(void) {
  const char *path = getenv("PATH");
  char *longer;
  if (path == NULL || *path == '\0')
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  if (asprintf(&longer, "%s:%s/bin", path, home) < 0)
    fail("buildgrid-bot: out of memory");
  set("PATH", longer);
  set("LC_ALL", "C");
  set("OPENSSL_CONF", "/dev/null");
}

int main(int argc, char **argv) {
  const char *name = find_home();
  char **command = calloc((size_t)argc + 16, sizeof *command);
  if (command == NULL)
    fail("buildgrid-bot: out of memory");
  char *loader = below_home("lib/ld.so");
  size_t n = 0;
  command[n++] = loader;
  command[n++] = "--inhibit-cache";
  command[n++] = "--library-path";
  command[n++] = below_home("lib");
  forget_settings_of_the_loader();
  if (strcmp(name, "bwrap") == 0) {
    command[n++] = below_home("libexec/bwrap");
  } else {
    set_environment_of_the_bot();
    command[n++] = below_home("python/bin/python3");
    command[n++] = "-I"; /* no variable, no user's packages */
    command[n++] = "-S"; /* no packages of a system */
    command[n++] = "-B"; /* nothing is written here */
    command[n++] = "-u";
    command[n++] = "-X";
    command[n++] = "utf8";
    command[n++] = below_home("app");
  }
  for (int i = 1; i < argc; i++)
    command[n++] = argv[i];
  execv(loader, command);
  fail(loader);
}
