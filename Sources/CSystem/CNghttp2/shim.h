// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <nghttp2/nghttp2.h>
// For malloc_trim, which Swift's Glibc module leaves out.
#include <malloc.h>
