// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The file of a listening unix socket.
package enum SocketFile {
  /// What is at a path.
  package enum State: Sendable, Equatable {
    case free
    /// A server listens there.
    case taken
    case notASocket
    /// A system call failed; the file stays.
    case failed(call: String, errno: Int32)
  }

  /// Removes a stale socket: it refuses connections, because its server died. Anything else at the path stays.
  @discardableResult
  package static func removeStale(_ path: String) -> State {
    var info = stat()
    guard lstat(path, &info) == 0 else { return .free }
    guard info.st_mode & S_IFMT == S_IFSOCK else { return .notASocket }
    guard let address = SocketAddress(unix: path) else { return .failed(call: "connect", errno: ENAMETOOLONG) }
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard probe >= 0 else { return .failed(call: "socket", errno: errno) }
    defer { close(probe) }
    // EAGAIN: a server listens and its backlog is full.
    if address.withPointer({ connect(probe, $0, $1) }) == 0 || errno == EAGAIN { return .taken }
    guard errno == ECONNREFUSED, unlink(path) == 0 || errno == ENOENT else {
      return .failed(call: "unlink", errno: errno)
    }
    return .free
  }
}
