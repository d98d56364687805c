// SPDX-License-Identifier: Apache-2.0

/// The base URL of a service: scheme, host, port and perhaps a path, without a slash at the end.
package struct EndpointURL: Sendable, Hashable, CustomStringConvertible {
  package let text: String
  /// Without brackets and port, lower case.
  package let host: String

  /// Nil for anything but an absolute http or https URL of printable ASCII without user, query or fragment.
  package init?(_ text: String) {
    let bytes = Array(text.utf8)
    guard bytes.count <= 2048, bytes.allSatisfy({ (0x21...0x7e).contains($0) }),
      !bytes.contains(where: { "?#@\\\"<>".utf8.contains($0) })
    else { return nil }
    let lower = text.lowercased()
    guard let scheme = ["http://", "https://"].first(where: { lower.hasPrefix($0) }) else { return nil }
    let rest = lower.dropFirst(scheme.count)
    let authority = rest.prefix { $0 != "/" }
    guard let host = EndpointURL.host(authority) else { return nil }
    self.host = host
    var trimmed = Substring(scheme + text.dropFirst(scheme.count))
    while trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
    self.text = String(trimmed)
  }

  package var isEncrypted: Bool { text.hasPrefix("https://") }

  package var description: String { text }

  private static func host(_ authority: Substring) -> String? {
    let host: Substring
    var port: Substring
    if authority.hasPrefix("[") {
      guard let end = authority.firstIndex(of: "]") else { return nil }
      host = authority[authority.index(after: authority.startIndex)..<end]
      port = authority[authority.index(after: end)...]
    } else {
      host = authority.prefix { $0 != ":" }
      port = authority[host.endIndex...]
    }
    guard !host.isEmpty else { return nil }
    if port.isEmpty { return String(host) }
    guard port.removeFirst() == ":", let number = UInt16(port), number > 0 else { return nil }
    return String(host)
  }
}
