// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A socket path in the kernel's form.
struct UnixAddress {
  private var address = sockaddr_un()

  /// Nil for an empty path, one of more than 107 bytes, or one with a NUL.
  init?(_ path: String) {
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let room = MemoryLayout.size(ofValue: address.sun_path) - 1
    guard (1...room).contains(bytes.count), !bytes.contains(0) else { return nil }
    // SAFETY: at most `room` bytes go into the zeroed array, which leaves its last byte as the terminator.
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  }

  /// Calls `body` with what `bind` and `connect` take; the pointer is valid during the call alone.
  func withPointer(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    // SAFETY: a sockaddr_un is a sockaddr whose true size is passed along.
    withUnsafePointer(to: address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }
}
