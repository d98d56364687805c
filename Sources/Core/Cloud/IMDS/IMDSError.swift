// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCTransport

/// Why the instance metadata service gave no usable answer.
package struct IMDSError: CausedError {
  /// What went wrong.
  package struct Code: Sendable, Hashable {
    private enum Value: String { case unreachable, tokenRefused, status, malformed, disabled }
    private let value: Value

    /// A short name with a fixed set of values, for a metric's label.
    package var label: String { value.rawValue }

    /// No complete HTTP answer within the attempts and the deadline; `cause` says why.
    package static let unreachable = Code(value: .unreachable)
    /// The service requires a token, and there was none or it was refused.
    package static let tokenRefused = Code(value: .tokenRefused)
    /// A status that is neither 200 nor 404.
    package static let status = Code(value: .status)
    /// The answer is invalid for this path.
    package static let malformed = Code(value: .malformed)
    /// The service is turned off for this process (AWS_EC2_METADATA_DISABLED).
    package static let disabled = Code(value: .disabled)
  }

  package let code: Code
  /// The requested path, such as `meta-data/mac`.
  package let path: String
  /// The HTTP status, if there was one.
  package let status: Int?
  package let detail: String
  package let cause: (any Error)?

  package init(_ code: Code, path: String, status: Int? = nil, detail: String, cause: (any Error)? = nil) {
    self.code = code
    self.path = path
    self.status = status
    self.detail = detail
    self.cause = cause
  }

  /// True if a later request may succeed.
  package var isTransient: Bool {
    switch code {
    case .unreachable: (cause as? HTTPError)?.isTransient ?? true
    case .status: status.map { $0 >= 500 || $0 == 429 } ?? false
    default: false
    }
  }

  package var description: String { "read \(path) from instance metadata: \(detail)" }
}
