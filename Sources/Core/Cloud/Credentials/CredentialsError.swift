// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// Why no credentials are available. Never contains a secret.
package typealias CredentialsError = LayerError<CredentialsFault>

package enum CredentialsFault: LayerFault {
  /// No source is configured, or the one configured has none.
  case notFound
  /// A setting, a file or an answer is invalid.
  case invalid
  /// The service that provides them did not answer.
  case unreachable
  /// The service refused.
  case refused
}

extension CredentialsError {
  /// - Parameter source: the source asked: `web identity`, `instance profile`…
  package init(_ code: CredentialsFault, source: String, detail: String, cause: (any Error)? = nil) {
    self.init(code, "get AWS credentials from \(source)", detail: detail, cause: cause)
  }

  /// True if a later request may succeed.
  package var isTransient: Bool { code == .unreachable }
}

/// One source of credentials.
package protocol CredentialsSource: Sendable {
  /// - Returns: credentials; nil if this source is not configured, so that the next one is asked.
  /// - Throws: if it is configured and fails; the next one is not asked then.
  func fetch() async throws(CredentialsError) -> Credentials?
}
