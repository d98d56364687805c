// SPDX-License-Identifier: Apache-2.0

/// How a call ended: a code and a text for people. A server's handler throws it to answer with anything but OK.
package struct RPCStatus: Error, Equatable, Sendable, CustomStringConvertible {
  package var code: RPCCode
  /// Untrusted when it came from a peer; at most 4,096 characters then.
  package var message: String

  package init(_ code: RPCCode, _ message: String) {
    self.code = code
    self.message = message
  }

  /// `rpc error: code = NotFound desc = unknown service`: the text of the gRPC library of amazon-vpc-cni-k8s, which
  /// people search for.
  package var description: String { "rpc error: code = \(code.name) desc = \(message)" }
}

/// A gRPC status code.
///
/// Source: https://github.com/grpc/grpc/blob/master/doc/statuscodes.md
package enum RPCCode: Int, Sendable, CaseIterable {
  case ok = 0
  case cancelled = 1
  case unknown = 2
  case invalidArgument = 3
  case deadlineExceeded = 4
  case notFound = 5
  case alreadyExists = 6
  case permissionDenied = 7
  case resourceExhausted = 8
  case failedPrecondition = 9
  case aborted = 10
  case outOfRange = 11
  case unimplemented = 12
  case `internal` = 13
  case unavailable = 14
  case dataLoss = 15
  case unauthenticated = 16

  /// The name as the gRPC library of amazon-vpc-cni-k8s prints it: `FailedPrecondition`, `OK`, `Canceled` (one `l`).
  package var name: String {
    switch self {
    case .ok: "OK"
    case .cancelled: "Canceled"
    case .unknown: "Unknown"
    case .invalidArgument: "InvalidArgument"
    case .deadlineExceeded: "DeadlineExceeded"
    case .notFound: "NotFound"
    case .alreadyExists: "AlreadyExists"
    case .permissionDenied: "PermissionDenied"
    case .resourceExhausted: "ResourceExhausted"
    case .failedPrecondition: "FailedPrecondition"
    case .aborted: "Aborted"
    case .outOfRange: "OutOfRange"
    case .unimplemented: "Unimplemented"
    case .internal: "Internal"
    case .unavailable: "Unavailable"
    case .dataLoss: "DataLoss"
    case .unauthenticated: "Unauthenticated"
    }
  }

  /// The code for an HTTP status other than 200 that came without `grpc-status`.
  ///
  /// Source: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
  package init(httpStatus: Int) {
    switch httpStatus {
    case 400: self = .internal
    case 401: self = .unauthenticated
    case 403: self = .permissionDenied
    case 404: self = .unimplemented
    case 429, 502, 503, 504: self = .unavailable
    default: self = .unknown
    }
  }

  /// The code for a stream that the peer ended by RST_STREAM with an HTTP/2 error code.
  ///
  /// Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (Errors)
  package init(resetCode: UInt32) {
    switch resetCode {
    case 0x7: self = .unavailable  // REFUSED_STREAM
    case 0x8: self = .cancelled  // CANCEL
    case 0xb: self = .resourceExhausted  // ENHANCE_YOUR_CALM
    case 0xc: self = .permissionDenied  // INADEQUATE_SECURITY
    default: self = .internal
    }
  }
}
