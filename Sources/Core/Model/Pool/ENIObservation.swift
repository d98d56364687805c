// SPDX-License-Identifier: Apache-2.0

/// One ENI as EC2 or IMDS shows it.
package struct ENIObservation: Sendable, Hashable {
  package var id: ENIID
  /// The device index of its attachment; 0 on card 0 is the primary.
  package var device: Int
  /// The network card.
  package var card: Int
  package var subnet: SubnetID
  /// The ENI's primary address, never assigned to a pod.
  package var primaryAddress: IPAddress?
  /// Secondary addresses (/32, /128) and delegated prefixes (/28, /80), the primary address left out.
  package var cidrs: [IPPrefix]
  /// False for an unmanaged ENI: it only takes an ENI slot of the instance.
  package var isManaged: Bool
  /// An ENI in an excluded subnet: no new pods on it, and its free addresses are unassigned.
  package var isExcluded: Bool
  package var isTrunk: Bool
  package var isEFA: Bool
  /// False if only IMDS or the kernel shows the ENI. Neither knows tags and types, so the pool neither assigns to nor
  /// unassigns from it until EC2 lists it.
  package var isConfirmed = true
  /// Whether link, table and rules of the ENI are already set up on the node; otherwise the pool requests it.
  package var isWired: Bool
  /// The ENI's route table, if it differs from the one that `RouteTable.eni` computes.
  package var routeTable: RouteTable?

  package init(
    id: ENIID, device: Int, card: Int = 0, subnet: SubnetID, primaryAddress: IPAddress? = nil, cidrs: [IPPrefix] = [],
    isManaged: Bool = true, isExcluded: Bool = false, isTrunk: Bool = false, isEFA: Bool = false,
    isWired: Bool = false, routeTable: RouteTable? = nil
  ) {
    self.id = id
    self.device = device
    self.card = card
    self.subnet = subnet
    self.primaryAddress = primaryAddress
    self.cidrs = cidrs
    self.isManaged = isManaged
    self.isExcluded = isExcluded
    self.isTrunk = isTrunk
    self.isEFA = isEFA
    self.isWired = isWired
    self.routeTable = routeTable
  }

  /// The route table by which packets leave by the ENI.
  package var table: RouteTable { routeTable ?? .eni(device: device, card: card) }
  package var isPrimary: Bool { card == 0 && device == 0 }
}
