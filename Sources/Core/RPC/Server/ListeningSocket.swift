// SPDX-License-Identifier: Apache-2.0

import Glibc
package import VPCModel
import VPCSystem

/// A listening unix socket in the file system, not yet owned by an event loop.
struct ListeningSocket {
  let descriptor: Int32
  /// Distinguishes this socket's file from a later one of another process.
  private let file: FileIdentity

  /// Creates the folder (0755) if it is missing, removes a stale socket, binds, sets the mode to 0660 and listens.
  ///
  /// - Throws: `ListenError` when a server is alive at the path, when the path is not a socket, or a call fails.
  init(path: String, backlog: Int32) throws(ListenError) {
    guard let address = SocketAddress(unix: path) else { throw ListenError("socket path is empty or too long", path) }
    try makeFolder(of: path)
    try removeStale(path)
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { throw ListenError("make a socket for", path, call: "socket") }
    // The kernel takes the file's mode from the socket at bind (less the umask), so that it is never wider than this;
    // chmod then sets what the umask took away. Source: net/unix/af_unix.c, unix_bind_bsd.
    fchmod(descriptor, 0o660)
    do throws(ListenError) {
      guard address.withPointer({ bind(descriptor, $0, $1) }) == 0 else {
        throw ListenError("listen on", path, call: "bind")
      }
      // The file belongs to this process now: later failures remove it.
      guard chmod(path, 0o660) == 0 else { throw ListenError("listen on", path, call: "chmod", removing: path) }
      guard listen(descriptor, backlog) == 0 else {
        throw ListenError("listen on", path, call: "listen", removing: path)
      }
      guard let file = FileIdentity(path) else { throw ListenError("listen on", path, call: "lstat") }
      self.descriptor = descriptor
      self.file = file
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// - Throws: `ListenError` if a server is alive at the path, or the path is not a socket.
  static func checkFree(path: String) throws(ListenError) {
    guard SocketAddress(unix: path) != nil else { throw ListenError("socket path is empty or too long", path) }
    try removeStale(path)
  }

  /// Sets how many connections may wait to be accepted: SwiftNIO, which takes the socket over, listens again with 128
  /// before it applies its options.
  func setBacklog(_ backlog: Int32) { listen(descriptor, backlog) }

  /// Removes the socket's file, unless another process has put its own there.
  func unlinkFile(path: String) {
    if FileIdentity(path) == file { unlink(path) }
  }
}

/// A server's socket could not be created.
package typealias ListenError = LayerError<ListenFault>

package enum ListenFault: LayerFault {
  /// Another server is alive there: it may exit.
  case taken
  /// The path is unusable, or a system call failed.
  case failed
}

extension ListenError {
  /// With the current errno, when a call is named.
  fileprivate init(_ text: String, _ path: String, call: String? = nil) {
    self.init(.failed, "\(text) \(path)", cause: call.map { SocketError(call: $0, errno: Glibc.errno) })
  }

  /// The same, and removes the file after the errno was read.
  fileprivate init(_ text: String, _ path: String, call: String, removing file: String) {
    self.init(text, path, call: call)
    unlink(file)
  }
}

private struct FileIdentity: Equatable {
  let device: UInt
  let inode: UInt

  init?(_ path: String) {
    var info = stat()
    guard lstat(path, &info) == 0 else { return nil }
    device = UInt(info.st_dev)
    inode = UInt(info.st_ino)
  }
}

private func makeFolder(of path: String) throws(ListenError) {
  guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return }
  let folder = String(path[..<slash])
  if access(folder, F_OK) == 0 { return }
  try makeFolder(of: folder)
  guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
    throw ListenError("make the folder", folder, call: "mkdir")
  }
  // Whatever the umask: the socket's folder must be open to the plugin.
  chmod(folder, 0o755)
}

private func removeStale(_ path: String) throws(ListenError) {
  switch SocketFile.removeStale(path) {
  case .free: return
  case .taken: throw ListenError(.taken, "another server is listening on \(path)")
  case .notASocket: throw ListenError("not a socket, left as it is:", path)
  case .failed(let call, let code):
    let what = call == "socket" ? "make a socket for" : "remove the stale socket"
    throw ListenError(.failed, "\(what) \(path)", cause: SocketError(call: call, errno: code))
  }
}
