// SPDX-License-Identifier: Apache-2.0
//
// The commit stands in a section of its own, which `make build` overwrites in the finished file (objcopy). A definition
// given to the compiler would have every file compiled anew with each commit. The same commit gives the same bytes.

#define _GNU_SOURCE
#include "CBuildFacts.h"
#include <string.h>

// volatile: the compiler must not take the content for what stands here.
__attribute__((section(".vpc_cni_build"), used)) static const volatile char mark[80] = "@(#)vpc-cni-build unknown";

const char *cbuild_mark(void) { return (const char *)mark; }

const void *cbuild_find(const void *bytes, size_t size, const void *wanted, size_t wanted_size) {
  return memmem(bytes, size, wanted, wanted_size);
}
