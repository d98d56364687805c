// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCSystem

/// The file of a listening unix socket.
enum SocketFile {
  /// Removes a stale socket that refuses connections. Anything else at the path stays, and binding then fails.
  static func removeStale(_ path: String) {
    var info = stat()
    guard lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFSOCK, isRefused(path) else { return }
    unlink(path)
  }

  private static func isRefused(_ path: String) -> Bool {
    guard let address = SocketAddress(unix: path) else { return false }
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard probe >= 0 else { return false }
    defer { close(probe) }
    return address.withPointer { connect(probe, $0, $1) } != 0 && errno == ECONNREFUSED
  }
}
