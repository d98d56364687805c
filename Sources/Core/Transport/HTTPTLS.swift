// SPDX-License-Identifier: Apache-2.0

/// The server and client authentication of one request.
///
/// Connections are shared only between requests whose values are equal.
package struct HTTPTLS: Sendable, Hashable {
  /// PEM text, in memory or in a file that is read for each new connection.
  package enum PEM: Sendable, Hashable, CustomStringConvertible, CustomReflectable {
    case file(String)
    case bytes([UInt8])

    /// Never the text itself: it may be a key.
    package var description: String {
      switch self {
      case .file(let path): path
      case .bytes(let bytes): "\(bytes.count) bytes"
      }
    }

    package var customMirror: Mirror { Mirror(self, children: [(label: String?, value: Any)](), displayStyle: .enum) }
  }

  /// A client certificate with its chain, and its key.
  package struct Identity: Sendable, Hashable {
    package var certificate: PEM
    package var key: PEM

    package init(certificate: PEM, key: PEM) {
      self.certificate = certificate
      self.key = key
    }
  }

  /// The only trusted authorities; nil for the machine's.
  package var authorities: PEM?
  package var identity: Identity?
  /// False: any server certificate is accepted. Only on the user's explicit request.
  package var verifiesServer: Bool

  package init(authorities: PEM? = nil, identity: Identity? = nil, verifiesServer: Bool = true) {
    self.authorities = authorities
    self.identity = identity
    self.verifiesServer = verifiesServer
  }
}
