// SPDX-License-Identifier: Apache-2.0

/// Where a server listens.
package enum RPCTarget: Hashable, Sendable, CustomStringConvertible {
  /// A stream socket in the file system; at most 107 bytes.
  case unix(path: String)
  /// A host name or literal address, IPv6 without brackets.
  case tcp(host: String, port: UInt16)

  /// Reads `unix:///path`, `unix:/path`, `unix:relative`, `host:port`, `[v6]:port`, `:port` (this host) and the last
  /// three behind `dns:///` or `passthrough:///`; nil for anything else.
  ///
  /// Source: https://github.com/grpc/grpc/blob/master/doc/naming.md
  package init?(_ text: String) {
    if text.hasPrefix("unix:") {
      let rest = text.dropFirst("unix:".count)
      let path = rest.hasPrefix("//") ? rest.dropFirst(2) : rest
      // `unix://relative` has an authority, which the scheme does not allow.
      guard !path.isEmpty, !rest.hasPrefix("//") || path.hasPrefix("/") else { return nil }
      self = .unix(path: String(path))
      return
    }
    var rest = text[...]
    for scheme in ["dns:///", "passthrough:///"] where rest.hasPrefix(scheme) {
      rest = rest.dropFirst(scheme.count)
    }
    guard let colon = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: colon)...]), port > 0 else {
      return nil
    }
    var host = rest[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") || host.contains("/") {
      return nil
    }
    self = .tcp(host: host.isEmpty ? "localhost" : String(host), port: port)
  }

  package var description: String {
    switch self {
    case .unix(let path): path
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
  }

  /// The `:authority` header; gRPC libraries send `localhost` on a unix socket, and some refuse a path.
  var authority: String {
    switch self {
    case .unix: "localhost"
    case .tcp: description
    }
  }
}
