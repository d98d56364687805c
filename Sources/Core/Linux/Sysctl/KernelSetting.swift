// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A kernel setting that pods depend on, with the value that it must have.
package struct KernelSetting: Sendable, Hashable {
  package let sysctl: Sysctl
  package let value: String

  package init(_ sysctl: Sysctl, _ value: String) {
    self.sysctl = sysctl
    self.value = value
  }

  /// As sysctl(8) names it.
  package var name: String { sysctl.description.split(separator: "/").joined(separator: ".") }

  /// IPv6 is on.
  package static func ipv6() throws(Sysctl.InvalidName) -> KernelSetting {
    KernelSetting(try Sysctl("net", "ipv6", "conf", "all", "disable_ipv6"), "0")
  }

  /// What makes the node a router for IPv6, in the order in which it must be set.
  ///
  /// - Parameter uplinks: the links with the node's default routes.
  package static func ipv6Router(_ uplinks: [InterfaceName]) throws(Sysctl.InvalidName) -> [KernelSetting] {
    var settings: [KernelSetting] = []
    // A router ignores router advertisements unless this is 2. Before forwarding: the kernel deletes default routes from
    // advertisements at the moment in which it becomes a router (rt6_purge_dflt_routers of net/ipv6/route.c).
    for link in uplinks { settings.append(KernelSetting(try .interface(link, .ipv6, "accept_ra"), "2")) }
    settings.append(KernelSetting(try Sysctl("net", "ipv6", "conf", "all", "forwarding"), "1"))
    return settings
  }
}

/// What the kernel has for a setting.
package struct KernelSettingReading: Sendable, Hashable {
  package let setting: KernelSetting
  /// Nil if the kernel has no such setting.
  package let found: String?

  package var isRight: Bool { found == setting.value }

  /// What the kernel needs to forward packets of pods.
  package static func forwarding(_ family: AddressFamily, on socket: NetlinkSocket) throws -> [KernelSettingReading] {
    let settings: [KernelSetting]
    switch family {
    case .ipv4: settings = [KernelSetting(try Sysctl("net", "ipv4", "ip_forward"), "1")]
    case .ipv6:
      let isOn = try KernelSetting.ipv6()
      // A kernel without IPv6 has no other either.
      guard try isOn.sysctl.read() != nil else { return [KernelSettingReading(setting: isOn, found: nil)] }
      let routes = try Route.list(table: .main, family: .ipv6, on: socket).filter { $0.destination.length == 0 }
      let uplinks = try Set(routes.compactMap(\.device)).sorted().compactMap { index in
        try Link.find(index: index, on: socket).flatMap { InterfaceName($0.name) }
      }
      settings = try [isOn] + KernelSetting.ipv6Router(uplinks)
    }
    return try settings.map { KernelSettingReading(setting: $0, found: try $0.sysctl.read()) }
  }
}
