// SPDX-License-Identifier: Apache-2.0

/// One point in which a node's kernel differs from what it should be, and so one change that mends it.
package enum NodeDifference: Sendable, Hashable, CustomStringConvertible {
  case mtu(link: UInt32, found: UInt32, wanted: UInt32)
  case linkDown(UInt32)
  case setting(Sysctl, found: String, wanted: String)
  case missingAddress(InterfaceAddress)
  case missingRoute(Route)
  case missingRule(PolicyRule)
  case foreignRule(PolicyRule)
  case foreignRoute(Route)
  case foreignAddress(InterfaceAddress)

  package var description: String {
    switch self {
    case .mtu(let link, let found, let wanted): "link \(link) has mtu \(found), not \(wanted)"
    case .linkDown(let link): "link \(link) is down"
    case .setting(let sysctl, let found, let wanted): "\(sysctl) is \(found), not \(wanted)"
    case .missingAddress(let address): "no address \(address)"
    case .missingRoute(let route): "no route \(route)"
    case .missingRule(let rule): "no rule \(rule)"
    case .foreignRule(let rule): "rule \(rule) should not be there"
    case .foreignRoute(let route): "route \(route) should not be there"
    case .foreignAddress(let address): "address \(address) should not be there"
    }
  }

  /// Mends the differences in the order given, the netlink part in one system call as far as possible.
  ///
  /// The order that `ENIWiring` and `NodeRules` return adds before it deletes. Settings are written in the calling
  /// thread's namespace, which must be that of the socket.
  /// - Throws: `NetlinkError`, `SystemCallError`: the first failure. The other netlink changes were tried all the same.
  package static func mend(_ differences: [NodeDifference], on socket: NetlinkSocket) throws {
    var requests: [NetlinkRequest] = []
    for difference in differences {
      if case .setting(let sysctl, _, let wanted) = difference {
        try sysctl.write(wanted)
      } else if let request = difference.request {
        requests.append(request)
      }
    }
    try socket.perform(requests)
  }

  private var request: NetlinkRequest? {
    switch self {
    case .mtu(let link, _, let wanted): .setMTU(wanted, of: link)
    case .linkDown(let link): .setUp(link)
    case .setting: nil
    case .missingAddress(let address): .replace(address)
    case .missingRoute(let route): .replace(route)
    case .missingRule(let rule): .add(rule)
    case .foreignRule(let rule): .delete(rule)
    case .foreignRoute(let route): .delete(route)
    case .foreignAddress(let address): .delete(address)
    }
  }
}
