// SPDX-License-Identifier: Apache-2.0

/// The incoming answer of a unary call: headers, one message, trailers. A value without I/O.
struct UnaryResponse {
  /// Set when the answer is no longer worth reading: too large, or not gRPC.
  private(set) var failure: RPCStatus?
  /// The stream is over, one way or the other.
  private(set) var isEnded = false
  /// Some of the message is here.
  var hasBody: Bool { !body.isEmpty }

  private var body: UnaryMessageReader
  private var httpStatus: Int?
  private var grpcStatus: Int?
  private var grpcMessage: String = ""
  private var contentType: String?
  private var resetCode: UInt32?
  private var headerBytes = 0

  /// Bytes of header names and values taken, all header blocks together.
  static let headerLimit = 64 * 1_024

  init(limit: Int) { body = UnaryMessageReader(limit: limit) }

  mutating func add(header name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) {
    // 32: what HTTP/2 itself counts for an entry, so that empty ones are not free. Source: RFC 9113, 6.5.2.
    headerBytes += name.count + value.count + 32
    guard headerBytes <= Self.headerLimit else {
      failure = RPCStatus(.resourceExhausted, "answer with more than \(Self.headerLimit) bytes of headers")
      return
    }
    switch String(decoding: name, as: UTF8.self) {
    case ":status": httpStatus = Int(String(decoding: value, as: UTF8.self))
    case "content-type": contentType = String(decoding: value, as: UTF8.self)
    case "grpc-status": grpcStatus = Int(String(decoding: value, as: UTF8.self)) ?? RPCCode.unknown.rawValue
    case "grpc-message": grpcMessage = StatusMessage.decode(Array(value))
    default: break
    }
  }

  mutating func add(data: UnsafeRawBufferPointer) {
    // The body of an HTTP error is not a message.
    guard !isForeign else { return }
    do throws(RPCStatus) {
      try body.append(data)
    } catch {
      failure = error
    }
  }

  mutating func end(resetCode: UInt32? = nil) {
    // The first end counts: a successful stream is also closed by a later frame.
    if !isEnded { self.resetCode = resetCode }
    isEnded = true
  }

  /// The message, once `isEnded`.
  ///
  /// - Throws: stage `answer` with the status that the server gave; stage `exchange` when it gave none.
  func message() throws(RPCError) -> [UInt8] {
    if let grpcStatus {
      let code = RPCCode(rawValue: grpcStatus) ?? .unknown
      guard code == .ok else { throw RPCError(.answer, RPCStatus(code, grpcMessage)) }
      guard let message = body.message else {
        let text = body.isEmpty ? "answer without a message" : "answer cut short"
        throw RPCError(.exchange, RPCStatus(.internal, text))
      }
      return message
    }
    if isForeign {
      let code = httpStatus.map { $0 == 200 ? .unknown : RPCCode(httpStatus: $0) } ?? .internal
      let what = "http status \(httpStatus.map(String.init) ?? "none"), content type \(contentType ?? "none")"
      throw RPCError(.exchange, RPCStatus(code, "answer is not gRPC: \(what.prefix(200))"))
    }
    if let resetCode {
      let text = "stream ended by the server with code \(resetCode)"
      throw RPCError(.exchange, RPCStatus(RPCCode(resetCode: resetCode), text))
    }
    throw RPCError(.exchange, RPCStatus(.internal, "answer without a status"))
  }

  /// The headers are not those of a gRPC answer.
  private var isForeign: Bool {
    guard let httpStatus else { return false }
    return httpStatus != 200 || !(contentType ?? "").hasPrefix("application/grpc")
  }
}
