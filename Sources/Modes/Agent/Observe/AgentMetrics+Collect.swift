// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCObserve

/// Values read at a scrape. Series of an ENI, CIDR, subnet or cause disappear with it: each family is set as a whole.
extension AgentMetrics {
  /// The whole text for Prometheus.
  ///
  /// - Parameter subnets: in use or excluded, as EC2 last reported.
  func text(of snapshot: PoolSnapshot, subnets: [SubnetUse] = []) -> String {
    collect(snapshot, subnets)
    process.collect()
    return registry.text()
  }

  func collect(_ pool: PoolSnapshot, _ subnets: [SubnetUse]) {
    let counts = pool.counts
    let managed = pool.enis.filter(\.isManaged)
    instruments.eniAllocated.set(Double(managed.count))
    // Other cards have limits of their own.
    let others = pool.enis.count { !$0.isManaged && $0.eni.card == 0 }
    let eniMax = max(pool.eniLimit - others, 0)
    instruments.eniMax.set(Double(eniMax))
    instruments.addressMax.set(Double(eniMax * pool.addressesPerENI))
    instruments.totalAddresses.set(Double(counts.total))
    instruments.assignedAddresses.set(Double(counts.assigned))
    instruments.totalPrefixes.set(Double(managed.reduce(0) { $0 + $1.prefixCount }))
    instruments.freeAddresses.set(Double(counts.free))
    instruments.coolingAddresses.set(Double(counts.cooling))
    instruments.pendingAddresses.set(Double(counts.pending))
    instruments.strayAddresses.set(Double(counts.stray))
    instruments.logLinesDropped.set(total: Double(droppedLogLines()))
    instruments.waitingAdds.set(Double(counts.waiting))
    instruments.forcedENIs.set(total: Double(pool.forcedENIs))
    instruments.forcedAddresses.set(total: Double(pool.forcedAddresses))
    instruments.growthBlocked.replaceAll(pool.blockedCause.map { [[$0.label]: 1] } ?? [:])
    collectENIs(managed)
    collectSubnets(pool, subnets)
  }

  private func collectENIs(_ enis: [ENISnapshot]) {
    var perENI: [[String]: Double] = [:]
    var perCIDR: [[String]: Double] = [:]
    for eni in enis {
      perENI[[eni.eni.id.text]] = Double(eni.cidrs.reduce(0) { $0 + $1.assigned })
      for cidr in eni.cidrs { perCIDR[["\(cidr.prefix)"]] = Double(cidr.assigned) }
    }
    instruments.assignedPerENI.replaceAll(perENI)
    instruments.assignedPerCIDR.replaceAll(perCIDR)
  }

  private func collectSubnets(_ pool: PoolSnapshot, _ subnets: [SubnetUse]) {
    instruments.prefixFallback.replaceAll(ones(pool.fallbackSubnets))
    instruments.subnetPaused.replaceAll(ones(pool.pausedSubnets))
    var free: [[String]: Double] = [:]
    var excluded: [[String]: Double] = [:]
    for subnet in subnets {
      if let count = subnet.freeAddresses { free[[subnet.id.text]] = Double(count) }
      excluded[[subnet.id.text]] = subnet.isExcluded ? 1 : 0
    }
    instruments.subnetFreeAddresses.replaceAll(free)
    instruments.subnetExcluded.replaceAll(excluded)
  }

  private func ones(_ subnets: [SubnetID]) -> [[String]: Double] {
    Dictionary(subnets.map { ([$0.text], 1) }) { first, _ in first }
  }
}

extension ENISnapshot {
  /// Delegated IPv4 prefixes.
  fileprivate var prefixCount: Int { cidrs.count { !$0.prefix.isSingle && $0.prefix.family == .ipv4 } }
}
