// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Why no credentials are available. Never contains a secret.
package struct CredentialsError: CausedError {
  /// What went wrong.
  package struct Code: Sendable, Hashable {
    private enum Value { case notFound, invalid, unreachable, refused }
    private let value: Value

    /// No source is configured, or the one configured has none.
    package static let notFound = Code(value: .notFound)
    /// A setting, a file or an answer is invalid.
    package static let invalid = Code(value: .invalid)
    /// The service that provides them did not answer.
    package static let unreachable = Code(value: .unreachable)
    /// The service refused.
    package static let refused = Code(value: .refused)
  }

  package let code: Code
  /// The source asked: `web identity`, `instance profile`…
  package let source: String
  package let detail: String
  package let cause: (any Error)?

  package init(_ code: Code, source: String, detail: String, cause: (any Error)? = nil) {
    self.code = code
    self.source = source
    self.detail = detail
    self.cause = cause
  }

  /// True if a later request may succeed.
  package var isTransient: Bool { code == .unreachable }

  package var description: String { "get AWS credentials from \(source): \(detail)" }
}

/// One source of credentials.
package protocol CredentialsSource: Sendable {
  /// - Returns: credentials; nil if this source is not configured, so that the next one is asked.
  /// - Throws: if it is configured and fails; the next one is not asked then.
  func fetch() async throws(CredentialsError) -> Credentials?
}
