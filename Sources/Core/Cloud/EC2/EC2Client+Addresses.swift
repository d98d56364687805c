// SPDX-License-Identifier: Apache-2.0

package import VPCModel

extension EC2Client {
  /// AssignPrivateIpAddresses. Not idempotent: after a lost answer (`noAnswer`, not `isUnsent`) describe the interface,
  /// since it may have more addresses than known.
  ///
  /// - Returns: the addresses that EC2 reports as assigned: single addresses as /32, prefixes as /28.
  /// - Throws: `isInsufficientAddresses`, `privateAddressLimitExceeded`, …
  package func assignPrivateAddresses(
    _ demand: EC2AddressDemand, to id: ENIID
  ) async throws(EC2Error) -> [IPPrefix] {
    let action = "AssignPrivateIpAddresses"
    var parameters = EC2Parameters(action: action)
    parameters.set("NetworkInterfaceId", id.text)
    switch demand {
    case .addresses(let count): parameters.set("SecondaryPrivateIpAddressCount", count)
    case .prefixes(let count): parameters.set("Ipv4PrefixCount", count)
    }
    let answer = try await call(action, parameters, .once)
    if let named = answer.text("networkInterfaceId"), named != id.text {
      throw answer.failure("it is about \(named.prefix(64)) and not \(id)")
    }
    let singles = try answer.values("assignedPrivateIpAddressesSet", "privateIpAddress", CloudText.ipv4)
    let prefixes = try answer.values("assignedIpv4PrefixSet", "ipv4Prefix", CloudText.ipv4Prefix)
    return singles.map { IPPrefix(single: $0) } + prefixes
  }

  /// UnassignPrivateIpAddresses: unassigns single addresses (/32) and prefixes (/28) in one call.
  ///
  /// EC2 refuses the whole call if one of them is not assigned, so it is retried only if it was not sent.
  package func unassignPrivateAddresses(_ addresses: [IPPrefix], from id: ENIID) async throws(EC2Error) {
    guard !addresses.isEmpty else { return }
    let action = "UnassignPrivateIpAddresses"
    var parameters = EC2Parameters(action: action)
    parameters.set("NetworkInterfaceId", id.text)
    parameters.list("PrivateIpAddress", addresses.filter(\.isSingle).map { "\($0.address)" })
    parameters.list("Ipv4Prefix", addresses.filter { !$0.isSingle }.map { "\($0)" })
    _ = try await call(action, parameters, .once)
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
