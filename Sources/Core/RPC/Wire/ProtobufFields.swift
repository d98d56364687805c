// SPDX-License-Identifier: Apache-2.0

/// A protobuf message parsed into fields without its schema: for the few places where generated code would be far too
/// large.
///
/// Source: https://protobuf.dev/programming-guides/encoding/
struct ProtobufFields {
  enum Value {
    case number(UInt64)
    /// A text, bytes, or a message.
    case bytes(ArraySlice<UInt8>)
  }

  private(set) var fields: [(number: Int, value: Value)] = []

  /// Nil for an invalid message. Fixed-width fields are skipped; none is used here.
  init?(_ bytes: some Collection<UInt8>) {
    var rest = ArraySlice(bytes)
    while !rest.isEmpty {
      guard let tag = Self.varint(&rest), tag >> 3 > 0, let number = Int(exactly: tag >> 3) else { return nil }
      switch tag & 7 {
      case 0:
        guard let value = Self.varint(&rest) else { return nil }
        fields.append((number, .number(value)))
      case 1:
        guard rest.count >= 8 else { return nil }
        rest = rest.dropFirst(8)
      case 2:
        guard let count = Self.varint(&rest), count <= UInt64(rest.count) else { return nil }
        fields.append((number, .bytes(rest.prefix(Int(count)))))
        rest = rest.dropFirst(Int(count))
      case 5:
        guard rest.count >= 4 else { return nil }
        rest = rest.dropFirst(4)
      default: return nil
      }
    }
  }

  /// The texts, bytes or messages of a field, in their order.
  func all(_ number: Int) -> [ArraySlice<UInt8>] {
    fields.compactMap { if $0.number == number, case .bytes(let bytes) = $0.value { bytes } else { nil } }
  }

  /// The last text of a field; empty if there is none, as in protobuf.
  func text(_ number: Int) -> String { all(number).last.map { String(decoding: $0, as: UTF8.self) } ?? "" }

  private static func varint(_ rest: inout ArraySlice<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    for shift in stride(from: 0, through: 63, by: 7) {
      guard let byte = rest.popFirst() else { return nil }
      // The tenth byte has room for one bit.
      guard shift < 63 || byte <= 1 else { return nil }
      value |= UInt64(byte & 0x7f) << UInt64(shift)
      if byte < 0x80 { return value }
    }
    return nil
  }

  // MARK: the other way

  /// A field with a text, bytes or a message.
  static func encode(_ number: Int, _ bytes: some Collection<UInt8>) -> [UInt8] {
    varint(UInt64(number) << 3 | 2) + varint(UInt64(bytes.count)) + bytes
  }

  /// A field with a number that is not negative.
  static func encode(_ number: Int, _ value: UInt64) -> [UInt8] { varint(UInt64(number) << 3) + varint(value) }

  private static func varint(_ value: UInt64) -> [UInt8] {
    var (rest, out) = (value, [UInt8]())
    while rest >= 0x80 {
      out.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    return out + [UInt8(rest)]
  }
}
