// SPDX-License-Identifier: Apache-2.0
#include "CNftables.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

struct cnft_table {
#define CNFT_MEMBER(library, result, name, parameters, arguments) __typeof__(&name) name;
  CNFT_FUNCTIONS(CNFT_MEMBER)
};

static struct cnft_table loaded;
static char failure[256];
static int outcome = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int resolve(struct cnft_table *table, const char *mnl_name, const char *nftnl_name, char *message, size_t size) {
  void *mnl = dlopen(mnl_name, RTLD_NOW | RTLD_LOCAL);
  if (mnl == NULL) {
    snprintf(message, size, "%s", dlerror());
    return -1;
  }
  void *nftnl = dlopen(nftnl_name, RTLD_NOW | RTLD_LOCAL);
  if (nftnl == NULL) {
    snprintf(message, size, "%s", dlerror());
    dlclose(mnl);
    return -1;
  }
  const char *missing = NULL;
#define CNFT_RESOLVE(library, result, function, parameters, arguments)              \
  table->function = (__typeof__(table->function))dlsym(library, #function);         \
  if (table->function == NULL && missing == NULL) missing = #library " lacks " #function;
  CNFT_FUNCTIONS(CNFT_RESOLVE)
  if (missing != NULL) {
    snprintf(message, size, "lib%s", missing);
    dlclose(nftnl);
    dlclose(mnl);
    return -1;
  }
  return 0;
}

static void load_once(void) {
  outcome = resolve(&loaded, "libmnl.so.0", "libnftnl.so.11", failure, sizeof(failure));
}

int cnft_load(char *message, size_t size) {
  pthread_once(&once, load_once);
  if (outcome != 0) snprintf(message, size, "%s", failure);
  return outcome;
}

int cnft_probe(const char *mnl, const char *nftnl, char *message, size_t size) {
  struct cnft_table table;
  return resolve(&table, mnl, nftnl, message, size);
}

#define CNFT_DEFINE(library, result, name, parameters, arguments) \
  result cnft_##name parameters { return loaded.name arguments; }
CNFT_FUNCTIONS(CNFT_DEFINE)
