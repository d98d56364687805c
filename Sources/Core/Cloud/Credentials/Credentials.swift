// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// An AWS access key. Its secret parts never appear in a description, a dump or a mirror.
package struct Credentials: Sendable, Hashable {
  package let accessKeyID: String
  package let secretAccessKey: String
  package let sessionToken: String?
  /// When AWS stops accepting them; nil for keys that do not expire.
  package let expiration: UTCTime?
  /// Where they came from, for people: `environment`, `instance profile node-role`…
  package let source: String

  package init(
    accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil, expiration: UTCTime? = nil,
    source: String
  ) {
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
    self.expiration = expiration
    self.source = source
  }

  /// False from the moment of expiry on.
  package func isValid(at time: UTCTime) -> Bool { expiration.map { time < $0 } ?? true }
}

extension Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  package var description: String {
    "credentials \(accessKeyID.prefix(4))… from \(source)" + (expiration.map { ", until \($0)" } ?? "")
  }

  package var debugDescription: String { description }

  package var customMirror: Mirror { Mirror(self, children: ["description": description]) }
}
