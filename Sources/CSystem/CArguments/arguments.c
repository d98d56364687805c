// SPDX-License-Identifier: Apache-2.0
// Where Swift's runtime gets the program's arguments from.
//
// Linked statically, the runtime reads and parses /proc/self/maps in every process before main, to find the stack and in
// it argv (Swift 6.3, stdlib/public/stubs/CommandLine.cpp). The C library hands argc and argv to every constructor, so
// they are taken there; a definition in the program keeps the archive's part out (docs/decisions/0042-what-runs-before-main.md).
//
// Where a later runtime wants more of that part than these two, the link fails with their names as duplicates: then this
// file goes, or follows.

#include <stddef.h>

static char *none[] = {NULL};
static char **arguments = none;
static int count = 0;

__attribute__((constructor)) static void take(int argc, char **argv, char **environment) {
  (void)environment;
  if (argv == NULL) return;
  arguments = argv;
  count = argc;
}

// `CommandLine.arguments` comes here.
char **_swift_stdlib_getUnsafeArgvArgc(int *length) {
  *length = count;
  return arguments;
}

// For programs that interpret others'; nothing here calls it.
void _swift_stdlib_overrideUnsafeArgvArgc(char **argv, int argc) {
  arguments = argv;
  count = argc;
}
