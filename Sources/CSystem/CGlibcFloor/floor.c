// Functions that static archives of the build machine ask for in versions newer than a node's glibc has.
// A definition in the executable satisfies the archives at link time, so no versioned import remains.
// `make check` lists the binary's imports and fails on anything newer.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

// libexpat.a salts its hash tables with this (GLIBC_2.36).
void arc4random_buf(void *buffer, size_t size) {
  unsigned char *at = buffer;
  while (size > 0) {
    ssize_t got = getrandom(at, size, 0);
    if (got < 0) {
      if (errno == EINTR) continue;
      abort();  // A kernel without getrandom is older than any that this program supports.
    }
    at += got;
    size -= (size_t)got;
  }
}

// libstdc++.a seeds its random_device with this (GLIBC_2.36).
uint32_t arc4random(void) {
  uint32_t value;
  arc4random_buf(&value, sizeof value);
  return value;
}

// Swift's Glibc overlay archive refers to it (re-versioned in GLIBC_2.35); no code of ours calls it.
float hypotf(float x, float y) { return (float)sqrt((double)x * x + (double)y * y); }

#ifdef DLFO_EH_SEGMENT_TYPE

// libgcc_eh.a finds unwind tables with this (GLIBC_2.35). The same answer from dl_iterate_phdr, which every glibc has.

struct search {
  uintptr_t pc;
  struct dl_find_object *found;
};

static int visit(struct dl_phdr_info *info, size_t size, void *context) {
  (void)size;
  struct search *search = context;
  const ElfW(Phdr) *unwind = NULL;
  uintptr_t low = UINTPTR_MAX, high = 0;
  int inside = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *header = &info->dlpi_phdr[i];
    if (header->p_type == DLFO_EH_SEGMENT_TYPE) unwind = header;
    if (header->p_type != PT_LOAD) continue;
    uintptr_t start = info->dlpi_addr + header->p_vaddr, end = start + header->p_memsz;
    if (start < low) low = start;
    if (end > high) high = end;
    if (search->pc >= start && search->pc < end) inside = 1;
  }
  if (!inside) return 0;
  if (unwind == NULL) return -1;
  memset(search->found, 0, sizeof *search->found);
  search->found->dlfo_map_start = (void *)low;
  search->found->dlfo_map_end = (void *)high;
  search->found->dlfo_eh_frame = (void *)(info->dlpi_addr + unwind->p_vaddr);
  return 1;
}

int _dl_find_object(void *pc, struct dl_find_object *found) {
  struct search search = {(uintptr_t)pc, found};
  return dl_iterate_phdr(visit, &search) == 1 ? 0 : -1;
}

#endif
