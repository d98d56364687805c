// SPDX-License-Identifier: Apache-2.0

// struct pollfd counts as CProcess's, whose header includes poll.h too.
internal import CProcess
internal import Glibc

/// A program's output, whatever its result: for reports, where partial output is useful.
package struct CommandCapture: Sendable {
  package enum Ending: Sendable, Hashable {
    case exited(status: Int32)
    case signalled(Int32)
    /// It ran past its deadline and was killed with its process group.
    case timedOut
    /// It was killed because of an interruption.
    case interrupted
    /// No program with that name.
    case notFound
    /// It could not be run; the text says why.
    case notRun(String)
  }

  package let ending: Ending
  /// The last `outputLimit` bytes, at most.
  package var output: [UInt8] = []
  package var errors: [UInt8] = []
  /// Bytes dropped from the beginning of the output.
  package var dropped = 0
}

/// What a child wrote to one pipe, within a bound.
package struct ChildOutput {
  /// What happens with more than fits.
  package enum Surplus { case isAnError, dropsTheOldest }

  let limit: Int
  let surplus: Surplus
  package private(set) var bytes: [UInt8] = []
  package private(set) var dropped = 0

  package init(limit: Int, surplus: Surplus) {
    self.limit = limit
    self.surplus = surplus
  }

  /// - Returns: whether it fits.
  package mutating func append(_ new: UnsafeRawBufferPointer) -> Bool {
    bytes += new
    guard bytes.count > limit else { return true }
    guard surplus == .dropsTheOldest else { return false }
    // Twice the limit is buffered, so that each byte is moved once.
    if bytes.count > 2 * limit { trim() }
    return true
  }

  /// To be called once at the end.
  package mutating func trim() {
    guard bytes.count > limit else { return }
    dropped += bytes.count - limit
    bytes.removeFirst(bytes.count - limit)
  }
}

/// Interrupts waiting programs from another thread: a bell that stays rung.
package final class Interruption: Sendable {
  private let bell: EventBell
  var descriptor: Int32 { bell.descriptor }

  /// - Throws: `SystemCallError` if no descriptor is left.
  package init() throws(SystemCallError) { bell = try EventBell() }

  package func raise() { bell.ring() }

  package var isRaised: Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    return poll(&entry, 1, 0) > 0
  }
}
