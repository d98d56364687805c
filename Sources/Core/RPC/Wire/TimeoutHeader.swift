// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// The value of `grpc-timeout`: up to eight digits and a unit.
///
/// Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (Timeout)
enum TimeoutHeader {
  /// The duration in the finest unit that fits eight digits, rounded up so that no caller gets less than it requested;
  /// zero is written as one nanosecond.
  static func encode(_ timeout: Duration) -> String {
    let nanoseconds = timeout.saturatedNanoseconds
    let seconds = nanoseconds / 1_000_000_000
    if nanoseconds < 100_000_000 { return "\(max(nanoseconds, 1))n" }
    if seconds < 99 { return "\((nanoseconds + 999) / 1_000)u" }
    if seconds < 99_999 { return "\((nanoseconds + 999_999) / 1_000_000)m" }
    if seconds < 99_999_999 { return "\(seconds + 1)S" }
    return "99999999S"
  }

  /// Nil for an invalid timeout: empty, more than eight digits, no unit or an unknown one.
  static func decode(_ text: String) -> Duration? {
    let bytes = Array(text.utf8)
    guard let unit = bytes.last, (2...9).contains(bytes.count) else { return nil }
    var value: Int64 = 0
    for byte in bytes.dropLast() {
      guard (0x30...0x39).contains(byte) else { return nil }
      value = value * 10 + Int64(byte - 0x30)
    }
    switch unit {
    case UInt8(ascii: "n"): return .nanoseconds(value)
    case UInt8(ascii: "u"): return .microseconds(value)
    case UInt8(ascii: "m"): return .milliseconds(value)
    case UInt8(ascii: "S"): return .seconds(value)
    case UInt8(ascii: "M"): return .seconds(value * 60)
    case UInt8(ascii: "H"): return .seconds(value * 3_600)
    default: return nil
    }
  }
}
