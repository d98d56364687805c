// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel

/// Checks EC2 responses for consistency. An address is assigned to a pod only if the response is consistent; otherwise
/// a new listing is requested.
enum AnswerAudit {
  /// What is wrong with the answer to an assign call; nil if it is consistent. Fewer addresses than requested are
  /// allowed, and so is an address that a listing showed on another ENI: listings may be stale, this answer is not.
  ///
  /// - Parameters:
  ///   - subnet: the ENI's, nil if unknown.
  ///   - entries: everything attached, the ENI itself included.
  static func fault(
    assigned: [IPPrefix], _ kind: CIDRKind, asked count: Int, to eni: ENIID, subnet: IPPrefix?,
    entries: [ENIID: ENIDirectory.Entry]
  ) -> String? {
    if assigned.count > count { return "\(assigned.count) assigned where \(count) were asked for" }
    if Set(assigned).count < assigned.count { return "one address twice" }
    for prefix in assigned {
      if prefix.isSingle != (kind == .address) {
        return "\(prefix) is not a\(kind == .address ? "n address" : " prefix")"
      }
      if let fault = fault(of: prefix, subnet: subnet, own: entries[eni]?.primaryAddress) { return fault }
    }
    for (id, entry) in entries where id != eni {
      if let own = entry.primaryAddress, let hit = assigned.first(where: { $0.contains(own) }) {
        return "\(hit) holds the own address of \(id)"
      }
    }
    return nil
  }

  /// Removes inconsistent entries from a listing: addresses outside the ENI's subnet, prefixes of another size, the
  /// ENI's own address, and addresses that two ENIs hold (from both).
  ///
  /// - Returns: the consistent addresses of each ENI, and one line per finding.
  static func sound(
    _ listed: [EC2NetworkInterface], _ family: AddressFamily, subnet: (EC2NetworkInterface) -> IPPrefix?
  ) -> (cidrs: [ENIID: [IPPrefix]], findings: [String]) {
    var found: [ENIID: [IPPrefix]] = [:]
    var findings: [String] = []
    for eni in listed {
      let cidr = subnet(eni)
      found[eni.id] = eni.podCIDRs(family).filter { prefix in
        guard let fault = fault(of: prefix, subnet: cidr, own: eni.ownAddress(family)) else { return true }
        findings.append("\(eni.id): \(fault)")
        return false
      }
    }
    let rivals = rivals(in: listed.map { ($0.id, found[$0.id] ?? []) })
    guard !rivals.doubtful.isEmpty else { return (found, findings) }
    return (found.mapValues { $0.filter { !rivals.doubtful.contains($0) } }, findings + rivals.findings)
  }

  /// CIDRs that two ENIs hold, or one inside a prefix of another.
  ///
  /// - Returns: the CIDRs, and one line per CIDR.
  static func rivals(in held: [(eni: ENIID, cidrs: [IPPrefix])]) -> (doubtful: Set<IPPrefix>, findings: [String]) {
    var holders: [IPPrefix: ENIID] = [:]
    var doubtful: Set<IPPrefix> = []
    var findings: [String] = []
    for (eni, cidrs) in held {
      for prefix in cidrs {
        guard let other = holders.updateValue(eni, forKey: prefix) else { continue }
        doubtful.insert(prefix)
        findings.append("\(prefix) is on \(other) and on \(eni)")
      }
    }
    for (prefix, eni) in holders where prefix.isSingle {
      guard let block = IPPrefix(containing: prefix.address, length: prefix.family.delegatedLength),
        let other = holders[block], other != eni
      else { continue }
      doubtful.formUnion([prefix, block])
      findings.append("\(prefix) of \(eni) lies in \(block) of \(other)")
    }
    return (doubtful, findings)
  }

  private static func fault(of prefix: IPPrefix, subnet: IPPrefix?, own: IPAddress?) -> String? {
    let length = prefix.family.delegatedLength
    if !prefix.isSingle, prefix.length != length { return "\(prefix) is not a /\(length)" }
    if let own, prefix.contains(own) { return "\(prefix) holds the ENI's own address" }
    if let subnet, !subnet.contains(prefix) { return "\(prefix) is not in the subnet's \(subnet)" }
    return nil
  }
}
