// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// One difference of a node's kernel from the desired state, and the change that repairs it.
package enum NodeDifference: Sendable, Hashable, CustomStringConvertible {
  case mtu(link: UInt32, found: UInt32, wanted: UInt32)
  case linkDown(UInt32)
  case mac(link: UInt32, found: MACAddress?, wanted: MACAddress)
  case setting(Sysctl, found: String, wanted: String)
  case missingAddress(InterfaceAddress)
  case missingRoute(Route)
  /// A pod's host route: never replaces an existing one, which may be a newer pod's.
  case missingPodRoute(Route)
  case missingRule(PolicyRule)
  case foreignRule(PolicyRule)
  case foreignRoute(Route)
  case foreignAddress(InterfaceAddress)

  package var description: String {
    switch self {
    case .mtu(let link, let found, let wanted): "link \(link) has mtu \(found), not \(wanted)"
    case .linkDown(let link): "link \(link) is down"
    case .mac(let link, let found, let wanted):
      "link \(link) has the address \(found.map(String.init) ?? "none"), not \(wanted)"
    case .setting(let sysctl, let found, let wanted): "\(sysctl) is \(found), not \(wanted)"
    case .missingAddress(let address): "no address \(address)"
    case .missingRoute(let route), .missingPodRoute(let route): "no route \(route)"
    case .missingRule(let rule): "no rule \(rule)"
    case .foreignRule(let rule): "rule \(rule) should not be there"
    case .foreignRoute(let route): "route \(route) should not be there"
    case .foreignAddress(let address): "address \(address) should not be there"
    }
  }

  /// Repairs the differences in the given order, the netlink part in one system call where possible.
  ///
  /// The order of `ENIWiring` and `NodeRules` adds before it deletes. Settings are written in the calling thread's
  /// namespace, which must be the socket's.
  /// - Throws: `NetlinkError`, `SystemCallError`: the first failure. The other netlink changes were tried anyway.
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

  /// As `mend`, but returns the error of each difference; nil for success.
  ///
  /// - Throws: if the answers are lost.
  package static func mendEach(_ differences: [NodeDifference], on socket: NetlinkSocket) throws -> [(any Error)?] {
    var failures = [(any Error)?](repeating: nil, count: differences.count)
    var places: [Int] = []
    var requests: [NetlinkRequest] = []
    for (index, difference) in differences.enumerated() {
      if case .setting(let sysctl, _, let wanted) = difference {
        do {
          try sysctl.write(wanted)
        } catch {
          failures[index] = error
        }
      } else if let request = difference.request {
        requests.append(request)
        places.append(index)
      }
    }
    for (index, result) in zip(places, try socket.performEach(requests)) {
      if case .failure(let error) = result { failures[index] = error }
    }
    return failures
  }

  private var request: NetlinkRequest? {
    switch self {
    case .mtu(let link, _, let wanted): .setMTU(wanted, of: link)
    case .linkDown(let link): .setUp(link)
    case .mac(let link, _, let wanted): .setMAC(wanted, of: link)
    case .setting: nil
    case .missingAddress(let address): .replace(address)
    case .missingRoute(let route): .replace(route)
    case .missingPodRoute(let route): .add(route)
    case .missingRule(let rule): .add(rule)
    case .foreignRule(let rule): .delete(rule)
    case .foreignRoute(let route): .delete(route)
    case .foreignAddress(let address): .delete(address)
    }
  }
}

extension NodeDifference {
  /// The kind of object, in a few words, for counting.
  package enum Kind: String, Sendable, Hashable, CaseIterable {
    case rule, route, address, link, mtu, mac, setting
  }

  package var kind: Kind {
    switch self {
    case .mtu: .mtu
    case .linkDown: .link
    case .mac: .mac
    case .setting: .setting
    case .missingAddress, .foreignAddress: .address
    case .missingRoute, .missingPodRoute, .foreignRoute: .route
    case .missingRule, .foreignRule: .rule
    }
  }

  /// The object, whatever is wrong with it: repeated differences of one object have the same text.
  package var subject: String {
    switch self {
    case .mtu(let link, _, _): "mtu of link \(link)"
    case .linkDown(let link): "link \(link)"
    case .mac(let link, _, _): "MAC address of link \(link)"
    case .setting(let sysctl, _, _): "\(sysctl)"
    case .missingAddress(let address), .foreignAddress(let address): "address \(address)"
    case .missingRoute(let route), .missingPodRoute(let route), .foreignRoute(let route): "route \(route)"
    case .missingRule(let rule), .foreignRule(let rule): "rule \(rule)"
    }
  }
}
