// SPDX-License-Identifier: Apache-2.0

/// Where a server of the agent listens.
package enum ListenAddress: Sendable, Hashable {
  /// - Parameters:
  ///   - host: an address of this host; nil for all.
  ///   - port: 0 lets the system choose.
  case tcp(host: IPAddress?, port: Int)
  /// A socket in the file system.
  case unix(path: String)

  /// Reads `ADDRESS:PORT`, `[ADDRESS]:PORT`, `localhost:PORT`, `:PORT` (all addresses) or `unix:/PATH`; nil for anything
  /// else. A port is 1…65535; a path absolute and at most 107 bytes, which is what the kernel takes.
  package init?(_ text: String) {
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard path.utf8.first == UInt8(ascii: "/"), (2...107).contains(path.utf8.count), !path.utf8.contains(0) else {
        return nil
      }
      self = .unix(path: path)
      return
    }
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let digits = text[text.index(after: colon)...]
    guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ 48...57 ~= $0 }), let port = Int(digits),
      (1...65_535).contains(port)
    else { return nil }
    var host = text[..<colon]
    switch host {
    case "": self = .tcp(host: nil, port: port)
    case "localhost": self = .tcp(host: IPAddress(ipv4: 0x7f00_0001), port: port)
    default:
      let isBracketed = host.first == "[" && host.last == "]"
      if isBracketed { host = host.dropFirst().dropLast() }
      // Without brackets the end of an IPv6 address is ambiguous.
      guard let address = IPAddress(String(host)), isBracketed == (address.family == .ipv6) else { return nil }
      self = .tcp(host: address, port: port)
    }
  }
}

extension ListenAddress: CustomStringConvertible {
  package var description: String {
    switch self {
    case .tcp(nil, let port): ":\(port)"
    case .tcp(let host?, let port): host.family == .ipv6 ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .unix(let path): "unix:\(path)"
    }
  }
}
