// SPDX-License-Identifier: Apache-2.0

/// gRPC's frame around a message: one byte that says whether it is compressed, four of length (big endian), the message.
///
/// Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (Length-Prefixed-Message)
enum MessageFrame {
  static let prefixLength = 5

  /// The frame's bytes; `message` is at most UInt32.max bytes (callers bound it far below).
  static func encode(_ message: [UInt8]) -> [UInt8] {
    let count = UInt32(message.count)
    var out: [UInt8] = []
    out.reserveCapacity(prefixLength + message.count)
    out += [0, UInt8(count >> 24), UInt8(count >> 16 & 0xff), UInt8(count >> 8 & 0xff), UInt8(count & 0xff)]
    out += message
    return out
  }
}

/// Collects the body of one unary message in pieces, with a limit on the announced length: the length is checked as
/// soon as its five bytes are there, before allocation.
struct UnaryMessageReader {
  /// Largest message taken, bytes.
  let limit: Int
  private(set) var bytes: [UInt8] = []

  init(limit: Int) { self.limit = limit }

  /// The message is complete, and nothing follows it.
  var isComplete: Bool { announced.map { bytes.count == MessageFrame.prefixLength + $0 } ?? false }

  /// Nothing was received.
  var isEmpty: Bool { bytes.isEmpty }

  /// Bytes missing of this message, or of its length.
  var missing: Int { MessageFrame.prefixLength + (announced ?? 0) - bytes.count }

  /// The message without its prefix; nil when it is not whole.
  var message: [UInt8]? { isComplete ? Array(bytes.dropFirst(MessageFrame.prefixLength)) : nil }

  /// Adds a piece.
  ///
  /// - Throws: RESOURCE_EXHAUSTED for a message above the limit, UNIMPLEMENTED for a compressed one or for a second
  ///   message after the first (a streaming call to a unary method), INTERNAL for a flag that is neither 0 nor 1.
  mutating func append(_ piece: some Collection<UInt8>) throws(RPCStatus) {
    // At most prefix + limit + one piece is ever held: what exceeds the announced length throws below.
    bytes.append(contentsOf: piece)
    guard let flag = bytes.first else { return }
    guard flag != 1 else { throw RPCStatus(.unimplemented, "compressed messages are not supported") }
    guard flag == 0 else { throw RPCStatus(.internal, "message with compressed-flag \(flag)") }
    guard let announced else { return }
    guard announced <= limit else {
      throw RPCStatus(.resourceExhausted, "message of \(announced) bytes, at most \(limit) are taken")
    }
    guard bytes.count <= MessageFrame.prefixLength + announced else {
      throw RPCStatus(.unimplemented, "more than one message in a unary call")
    }
  }

  private var announced: Int? {
    guard bytes.count >= MessageFrame.prefixLength else { return nil }
    return bytes[1..<MessageFrame.prefixLength].reduce(0) { $0 << 8 | Int($1) }
  }
}
