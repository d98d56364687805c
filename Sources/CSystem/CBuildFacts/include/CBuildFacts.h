// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stddef.h>

/// `@(#)vpc-cni-build COMMIT`: what this binary was built from; COMMIT is `unknown` unless the build wrote it in.
const char *cbuild_mark(void);

/// memmem(3), which Swift's Glibc module hides behind _GNU_SOURCE.
const void *cbuild_find(const void *bytes, size_t size, const void *wanted, size_t wanted_size);
