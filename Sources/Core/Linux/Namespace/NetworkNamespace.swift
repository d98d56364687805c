// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
internal import VPCSystem

/// An open network namespace: owns a file descriptor that keeps it alive.
package final class NetworkNamespace: Sendable {
  /// The identity of an open namespace: device and inode of its file in nsfs.
  package struct Identity: Sendable, Hashable {
    /// st_dev of nsfs.
    package let device: UInt64
    /// st_ino, as in `net:[4026531840]`.
    package let inode: UInt64
  }

  /// Open as long as this object lives; close-on-exec.
  package let descriptor: Int32
  /// For comparing with another, such as the caller's own.
  package let identity: Identity

  /// Why a path is not a network namespace.
  package struct Refusal: Error, Sendable, Hashable, CustomStringConvertible {
    /// As given, at most 256 characters.
    package let path: String
    /// Without the path.
    package let reason: String
    package var description: String { "open network namespace \(path): \(reason)" }
  }

  /// Opens a namespace by its path (`/var/run/netns/NAME`, `/proc/PID/ns/net`) and verifies its type.
  ///
  /// - Throws: `SystemCallError` if it cannot be opened; `Refusal` if the file is not a network namespace.
  package init(path: String) throws {
    // An embedded zero would truncate the path in C. O_NONBLOCK: a fifo must not block.
    guard !path.utf8.contains(0), !path.isEmpty, path.utf8.count < Int(PATH_MAX) else {
      throw Refusal(path: String(path.prefix(256)), reason: "not a path")
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw SystemCallError(errno: errno, call: "open network namespace \(path)") }
    do {
      identity = try NetworkNamespace.identify(descriptor, path: path)
      self.descriptor = descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Opens the calling thread's own.
  package static func current() throws -> NetworkNamespace {
    // Not /proc/self: that is the main thread's, and a namespace belongs to a thread.
    try NetworkNamespace(path: "/proc/thread-self/ns/net")
  }

  /// Creates a new, empty namespace, without changing any remaining thread. For tests and the simulated node.
  package static func create() throws -> NetworkNamespace {
    try SystemThread.run {
      guard cnetlink_unshare_net() == 0 else {
        throw SystemCallError(errno: errno, call: "make a network namespace")
      }
      return try current()
    }
  }

  deinit { close(descriptor) }

  /// A path to this namespace, valid while this object lives, for any process that may see it.
  package var path: String { "/proc/\(getpid())/fd/\(descriptor)" }

  private static func identify(_ descriptor: Int32, path: String) throws -> Identity {
    // NS_GET_NSTYPE answers on nsfs alone: any other file gives ENOTTY (or an answer of its own, which the magic of the
    // file system rules out).
    var system = statfs()
    var file = stat()
    guard fstatfs(descriptor, &system) == 0, fstat(descriptor, &file) == 0 else {
      throw SystemCallError(errno: errno, call: "examine network namespace \(path)")
    }
    guard UInt32(truncatingIfNeeded: system.f_type) == 0x6e73_6673 else {
      throw Refusal(path: path, reason: "not a namespace")
    }
    let type = cnetlink_namespace_type(descriptor)
    guard type >= 0 else { throw SystemCallError(errno: errno, call: "examine network namespace \(path)") }
    guard type == CNETLINK_CLONE_NEWNET else {
      throw Refusal(path: path, reason: "a namespace of another type")
    }
    return Identity(device: UInt64(file.st_dev), inode: UInt64(file.st_ino))
  }
}

extension NetworkNamespace {
  /// Runs `body` inside the namespace on a thread of its own, which then ends, and waits for it.
  ///
  /// A descriptor opened in `body` keeps the namespace wherever it is used later; `/proc/sys/net` and a spawned child see
  /// the namespace too.
  /// - Throws: what `body` throws; `SystemCallError`.
  package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
    try SystemThread.run { [self] in
      try enter()
      return try body()
    }
  }

  /// Runs `body` inside the namespace **on the calling thread** and goes back.
  ///
  /// For a single-threaded process, such as the plugin: costs two system calls instead of a thread. The caller must own
  /// the thread during the call; the body must neither suspend nor start a thread. Ends the process if the return to
  /// the old namespace fails, since all later work would hit the wrong namespace.
  package func runOnThisThread<Value, Failure: Error>(
    _ body: () throws(Failure) -> Value
  ) throws -> Value {
    let home = try NetworkNamespace.current()
    try enter()
    defer {
      if cnetlink_setns_net(home.descriptor) != 0 { abort() }
    }
    return try body()
  }

  /// Opens a netlink socket that works in the namespace, by a thread that is made for it.
  package func openSocket(timeout: Duration = .seconds(5)) throws -> sending NetlinkSocket {
    // SAFETY: the box hands the one reference from the thread that made it to the caller; run has joined the thread.
    let box = try run { UnsafeTransfer(value: try NetlinkSocket(timeout: timeout)) }
    return box.value
  }

  /// As `openSocket`, on the calling thread; see `runOnThisThread`.
  package func openSocketOnThisThread(timeout: Duration = .seconds(5)) throws -> NetlinkSocket {
    try runOnThisThread { () throws(NetlinkError) in try NetlinkSocket(timeout: timeout) }
  }

  private func enter() throws {
    guard cnetlink_setns_net(descriptor) == 0 else {
      throw SystemCallError(errno: errno, call: "enter network namespace")
    }
  }
}

/// Carries one reference from a thread that ends to the one that waits for it.
// SAFETY: only made by a thread that lets go of the value and ends before the value is read.
struct UnsafeTransfer<Value>: @unchecked Sendable {
  let value: Value
}
