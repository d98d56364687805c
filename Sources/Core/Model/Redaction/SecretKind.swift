// SPDX-License-Identifier: Apache-2.0

/// The kind of a replaced secret. The raw value is part of the replacement: `[redacted field]`.
package enum SecretKind: String, Sendable, Hashable, CaseIterable {
  /// The value of a field, variable, header or option with a name that announces a secret.
  case field
  case awsKeyID = "aws-key-id"
  /// A long run of base64: a secret key, a session token, a key's body.
  case keyMaterial = "key-material"
  case privateKey = "private-key"
  case webToken = "web-token"
  case bootstrapToken = "bootstrap-token"
  /// A token of a service that marks its tokens: GitHub, Slack and others.
  case serviceToken = "service-token"
  /// `user:password@` in a URL, `-u user:password`, `Basic` and `Bearer` in running text.
  case login
  /// Lines that belong to a field whose name announces a secret.
  case block
}
