// SPDX-License-Identifier: Apache-2.0

package import VPCModel

extension EC2Client {
  /// AssignPrivateIpAddresses or AssignIpv6Addresses. Not idempotent: after a lost answer (`noAnswer`, not `isUnsent`)
  /// describe the interface, since it may have more addresses than known.
  ///
  /// - Returns: the addresses that EC2 reports as assigned: single addresses at full length, prefixes as /28 or /80.
  /// - Throws: `isInsufficientAddresses`, `privateAddressLimitExceeded`, …
  package func assignAddresses(
    _ demand: EC2AddressDemand, _ family: AddressFamily = .ipv4, to id: ENIID
  ) async throws(EC2Error) -> [IPPrefix] {
    let action = family == .ipv4 ? "AssignPrivateIpAddresses" : "AssignIpv6Addresses"
    var parameters = EC2Parameters(action: action)
    parameters.set("NetworkInterfaceId", id.text)
    switch demand {
    case .addresses(let count):
      parameters.set(family == .ipv4 ? "SecondaryPrivateIpAddressCount" : "Ipv6AddressCount", count)
    case .prefixes(let count): parameters.set(family == .ipv4 ? "Ipv4PrefixCount" : "Ipv6PrefixCount", count)
    }
    let answer = try await call(action, parameters, .once)
    if let named = answer.text("networkInterfaceId"), named != id.text {
      throw answer.failure("it is about \(named.prefix(64)) and not \(id)")
    }
    let (singles, prefixes): ([IPAddress], [IPPrefix])
    switch family {
    case .ipv4:
      singles = try answer.values("assignedPrivateIpAddressesSet", "privateIpAddress", CloudText.ipv4)
      prefixes = try answer.values("assignedIpv4PrefixSet", "ipv4Prefix", CloudText.ipv4Prefix)
    case .ipv6:
      singles = try answer.values("assignedIpv6Addresses", CloudText.ipv6)
      prefixes = try answer.values("assignedIpv6PrefixSet", CloudText.ipv6Prefix)
    }
    return singles.map { IPPrefix(single: $0) } + prefixes
  }

  /// UnassignPrivateIpAddresses, UnassignIpv6Addresses or both: unassigns single addresses and prefixes in one call for
  /// each family.
  ///
  /// EC2 refuses the whole call if one of them is not assigned, so it is retried only if it was not sent.
  package func unassignAddresses(_ addresses: [IPPrefix], from id: ENIID) async throws(EC2Error) {
    for family in AddressFamily.allCases {
      let ours = addresses.filter { $0.family == family }
      guard !ours.isEmpty else { continue }
      let action = family == .ipv4 ? "UnassignPrivateIpAddresses" : "UnassignIpv6Addresses"
      var parameters = EC2Parameters(action: action)
      parameters.set("NetworkInterfaceId", id.text)
      let names = family == .ipv4 ? ("PrivateIpAddress", "Ipv4Prefix") : ("Ipv6Addresses", "Ipv6Prefix")
      parameters.list(names.0, ours.filter(\.isSingle).map { "\($0.address)" })
      parameters.list(names.1, ours.filter { !$0.isSingle }.map { "\($0)" })
      _ = try await call(action, parameters, .once)
    }
  }

  /// CreateTags on one interface; tags of the same key are replaced. Idempotent.
  package func createTags(_ tags: [String: String], interface id: ENIID) async throws(EC2Error) {
    guard !tags.isEmpty else { return }
    let action = "CreateTags"
    var parameters = EC2Parameters(action: action)
    parameters.list("ResourceId", [id.text])
    parameters.tags("Tag", tags)
    _ = try await call(action, parameters, .idempotent)
  }
}
