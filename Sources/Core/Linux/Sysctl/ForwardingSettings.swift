// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A kernel setting that pods depend on.
package struct ForwardingSetting: Sendable, Hashable {
  /// As sysctl(8) names it.
  package let name: String
  /// Nil if the kernel has no such setting.
  package let value: String?
  package let wanted: String

  package init(name: String, value: String?, wanted: String) {
    self.name = name
    self.value = value
    self.wanted = wanted
  }

  package var isRight: Bool { value == wanted }

  /// What the kernel needs to forward packets of pods, in the order in which it must be set.
  package static func all(_ family: AddressFamily, on socket: NetlinkSocket) throws -> [ForwardingSetting] {
    guard family == .ipv6 else { return [try read(["net", "ipv4", "ip_forward"], "1")] }
    let isOff = try read(["net", "ipv6", "conf", "all", "disable_ipv6"], "0")
    // A kernel without IPv6 has no other either.
    guard isOff.value != nil else { return [isOff] }
    var settings = [isOff]
    // A router ignores router advertisements, and loses the default route that it has from one, unless this is 2.
    let routes = try Route.list(table: .main, family: .ipv6, on: socket)
    for index in Set(routes.filter { $0.destination.length == 0 }.compactMap(\.device)).sorted() {
      guard let link = try Link.find(index: index, on: socket) else { continue }
      settings.append(try read(["net", "ipv6", "conf", link.name, "accept_ra"], "2"))
    }
    return settings + [try read(["net", "ipv6", "conf", "all", "forwarding"], "1")]
  }

  private static func read(_ parts: [String], _ wanted: String) throws -> ForwardingSetting {
    ForwardingSetting(name: parts.joined(separator: "."), value: try Sysctl(parts: parts).read(), wanted: wanted)
  }
}
