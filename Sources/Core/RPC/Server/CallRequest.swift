// SPDX-License-Identifier: Apache-2.0

import NIOHPACK

/// A call's validated request headers. A value without I/O.
struct CallRequest {
  let method: RPCMethod
  let handler: RPCMethodTable.Handler
  /// Nil when the caller set none.
  let timeout: Duration?

  /// Why a request is refused.
  enum Refusal: Error, Equatable {
    /// Not gRPC at all: answered in HTTP's own terms.
    case http(Int)
    case status(RPCStatus)
  }

  init(_ headers: HPACKHeaders, methods: RPCMethodTable) throws(Refusal) {
    guard headers.first(name: ":method") == "POST" else { throw .http(405) }
    guard headers.first(name: "content-type").map(Self.isGRPC) ?? false else { throw .http(415) }
    if let encoding = headers.first(name: "grpc-encoding"), encoding != "identity" {
      throw .status(RPCStatus(.unimplemented, "compression \(encoding.prefix(32)) is not supported, use identity"))
    }
    do throws(RPCStatus) {
      (method, handler) = try methods.find(headers.first(name: ":path") ?? "")
    } catch {
      throw .status(error)
    }
    if let text = headers.first(name: "grpc-timeout") {
      guard let value = TimeoutHeader.decode(text) else {
        throw .status(RPCStatus(.internal, "malformed grpc-timeout"))
      }
      timeout = value
    } else {
      timeout = nil
    }
  }

  /// `application/grpc`, alone or with `+proto` or parameters; other message encodings are not supported.
  private static func isGRPC(_ type: String) -> Bool {
    let type = type.lowercased()
    return type == "application/grpc" || type == "application/grpc+proto" || type.hasPrefix("application/grpc;")
      || type.hasPrefix("application/grpc+proto;")
  }
}

/// The frames of an answer.
enum CallAnswer {
  static let head = HPACKHeaders([(":status", "200"), ("content-type", "application/grpc")])

  /// The end of an answer that has begun.
  static func trailers(_ status: RPCStatus) -> HPACKHeaders {
    if status.code == .ok { return success }
    var headers = HPACKHeaders()
    add(status, to: &headers)
    return headers
  }

  /// The complete answer of a call without a message, usually a failed one.
  static func trailersOnly(_ status: RPCStatus) -> HPACKHeaders {
    var headers = head
    add(status, to: &headers)
    if status.code == .unimplemented { headers.add(name: "grpc-accept-encoding", value: "identity") }
    return headers
  }

  private static let success = HPACKHeaders([("grpc-status", "0")])

  private static func add(_ status: RPCStatus, to headers: inout HPACKHeaders) {
    headers.add(name: "grpc-status", value: String(status.code.rawValue))
    headers.add(name: "grpc-message", value: StatusMessage.encode(status.message))
  }
}
