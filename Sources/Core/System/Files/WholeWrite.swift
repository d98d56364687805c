// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Writes whole buffers to a descriptor.
package enum WholeWrite {
  /// Writes all bytes; continues after a short write (such as on a full disk) and after a signal.
  ///
  /// - Returns: 0, or the error's number; the first bytes may be written then.
  @discardableResult
  package static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    var rest = bytes[...]
    while !rest.isEmpty {
      // SAFETY: write reads the bytes before it returns.
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { return count == 0 ? EIO : errno }
      rest = rest.dropFirst(count)
    }
    return 0
  }
}
