// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <zlib.h>

// Macros of zlib.h, which Swift does not import. A deflate stream of its own, without a header (RFC 1951).
static inline int czlib_begin_deflate(z_stream *stream) {
  return deflateInit2(stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
}

// Reads gzip files (RFC 1952).
static inline int czlib_begin_inflate(z_stream *stream) { return inflateInit2(stream, 15 + 16); }
