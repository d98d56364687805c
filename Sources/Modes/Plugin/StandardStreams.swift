// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCModel
import VPCSystem

/// Standard input and output, each read or written whole.
enum StandardStreams {
  /// Reads until the writer closes.
  ///
  /// - Parameter timeout: for the whole read: a runtime that keeps its end open must not block the pod forever.
  /// - Throws: code 6 beyond the configuration's largest size, 5 when reading fails or takes too long.
  static func readInput(timeout: Duration, descriptor: Int32 = STDIN_FILENO) throws(CNIError) -> [UInt8] {
    try readAll(descriptor, limit: NetworkConfiguration.limits.size, until: ContinuousClock.now + timeout)
  }

  /// Writes everything, or as much as the reader accepts.
  static func writeOutput(_ bytes: [UInt8], descriptor: Int32 = STDOUT_FILENO) {
    WholeWrite.write(bytes, to: descriptor)
  }

  private static func readAll(
    _ descriptor: Int32, limit: Int, until end: ContinuousClock.Instant
  ) throws(CNIError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16384)
    while true {
      try wait(descriptor, until: end)
      let count = read(descriptor, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else {
        throw CNIError(.io, "cannot read the network config from standard input: \(SystemErrorText.text(errno))")
      }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= limit else { throw CNIError(.undecodable, "network config: more than \(limit) bytes") }
    }
  }

  private static func wait(_ descriptor: Int32, until end: ContinuousClock.Instant) throws(CNIError) {
    let milliseconds = max(ContinuousClock.now.duration(to: end).wholeMilliseconds, 0)
    var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    // A failure appears in the following read.
    if Glibc.poll(&poll, 1, Int32(clamping: milliseconds)) == 0 {
      throw CNIError(.io, "timed out reading the network config from standard input")
    }
  }
}
