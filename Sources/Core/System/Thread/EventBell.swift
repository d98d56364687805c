// SPDX-License-Identifier: Apache-2.0

// eventfd comes with CProcess's headers.
internal import CProcess
internal import Glibc

/// Wakes a thread that polls, from any other: an eventfd.
package final class EventBell: Sendable {
  package let descriptor: Int32

  package init() throws(SystemCallError) {
    descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard descriptor >= 0 else { throw SystemCallError(errno: errno, call: "make an eventfd") }
  }

  deinit { close(descriptor) }

  package func ring() {
    var one: UInt64 = 1
    // A full counter rings too.
    _ = write(descriptor, &one, MemoryLayout<UInt64>.size)
  }

  package func clear() {
    var count: UInt64 = 0
    // An empty counter is the normal end.
    _ = read(descriptor, &count, MemoryLayout<UInt64>.size)
  }
}
