// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// One interface that a pod should have: a veth pair, the pod's end in the pod's namespace.
package struct PodInterface: Sendable, Hashable {
  /// 0 for the pod's first interface, the only one with routes in the pod's main table.
  package let index: Int
  /// The host's end.
  package let hostName: InterfaceName
  /// The pod's end.
  package let podName: InterfaceName
  /// The pod's address, alone in its subnet.
  package let address: IPAddress
  /// The routing table of the ENI that owns the address. Used only by the per-pod rules.
  package let eniTable: RouteTable

  package init(index: Int, hostName: InterfaceName, podName: InterfaceName, address: IPAddress, eniTable: RouteTable) {
    self.index = index
    self.hostName = hostName
    self.podName = podName
    self.address = address
    self.eniTable = eniTable
  }

  /// The pod's gateway: 169.254.1.(index + 1), or fe80::(index + 1). No interface has this address; a permanent
  /// neighbour entry sends its packets to the host's end.
  package var gateway: IPAddress {
    switch address.family {
    case .ipv4: IPAddress(ipv4: 0xa9fe_0101 + UInt32(index))
    case .ipv6: IPAddress(ipv6: UInt128(0xfe80) << 112 | UInt128(index + 1))
    }
  }
}

/// How packets are routed to pods: the host's part of the wiring.
package enum HostRouting: Sendable, Hashable {
  /// Only the host route in this table. The agent maintains the rules, which are the same for all pods.
  case table(RouteTable)
  /// The scheme of amazon-vpc-cni-k8s: the host route in main, a rule 512 `to POD lookup main` and, unless the ENI's
  /// table is main, a rule 1536 `from POD lookup ENI-TABLE`.
  case perPodRules

  /// The table that holds the host route.
  package var routeTable: RouteTable {
    switch self {
    case .table(let table): table
    case .perPodRules: .main
    }
  }
}

/// The desired wiring of a pod.
package struct PodNetwork: Sendable, Hashable {
  /// The maximum number of interfaces of a pod, one per network card; the last byte of a gateway's address also limits
  /// it.
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
