// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// One interface that a pod should have: a veth pair, the pod's end in the pod's namespace.
package struct PodInterface: Sendable, Hashable {
  /// 0 for the pod's first interface, which alone has routes in the pod's main table.
  package let index: Int
  /// The host's end.
  package let hostName: InterfaceName
  /// The pod's end.
  package let podName: InterfaceName
  /// The pod's address, alone in its subnet.
  package let address: IPAddress
  /// The routing table of the ENI that owns the address. Used by the per-pod rules alone.
  package let eniTable: RouteTable

  package init(index: Int, hostName: InterfaceName, podName: InterfaceName, address: IPAddress, eniTable: RouteTable) {
    self.index = index
    self.hostName = hostName
    self.podName = podName
    self.address = address
    self.eniTable = eniTable
  }

  /// What the pod takes for its router: 169.254.1.(index + 1), or fe80::(index + 1). No interface has this address; a
  /// permanent neighbour entry sends its packets to the host's end.
  package var gateway: IPAddress {
    switch address.family {
    case .ipv4: IPAddress(ipv4: 0xa9fe_0101 + UInt32(index))
    case .ipv6: IPAddress(ipv6: UInt128(0xfe80) << 112 | UInt128(index + 1))
    }
  }
}

/// Where packets to pods find their way: the host's part of the wiring.
package enum HostRouting: Sendable, Hashable {
  /// The host route in this table alone. The agent keeps what leads packets there and back, the same for all pods.
  case table(RouteTable)
  /// The reference's scheme: the host route in main, a rule 512 `to POD lookup main` and, unless the ENI's table is
  /// main, a rule 1536 `from POD lookup ENI-TABLE`.
  case perPodRules

  /// The table that holds the host route.
  package var routeTable: RouteTable {
    switch self {
    case .table(let table): table
    case .perPodRules: .main
    }
  }
}

/// What a pod's wiring should be.
package struct PodNetwork: Sendable, Hashable {
  /// The most interfaces a pod can have, one for each network card; the last byte of a gateway's address bounds it too.
  package static let maximumInterfaces = 32

  /// In the order of their index.
  package let interfaces: [PodInterface]
  /// Of both ends of each pair.
  package let mtu: UInt32
  package let routing: HostRouting

  package init(interfaces: [PodInterface], mtu: UInt32, routing: HostRouting) {
    self.interfaces = interfaces
    self.mtu = mtu
    self.routing = routing
  }
}
