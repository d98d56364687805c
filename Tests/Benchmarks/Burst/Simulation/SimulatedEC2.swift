// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// EC2 for all nodes of one run: buckets, latencies, and the owner of each ENI and address.
///
/// A call takes its token when it is sent and takes effect when its answer arrives; a refusal is fast. The state
/// suffices to judge the nodes: an address given to a pod must be on an ENI of its node and belong to no other pod.
package final class SimulatedEC2 {
  package enum Refusal: Error, Sendable, Hashable {
    case throttled, subnetFull, notFound, inUse, deviceTaken, eniLimit
  }

  package struct ENI {
    package let id: ENIID
    package fileprivate(set) var cidrs: [IPPrefix]
    /// Its own address, which no pod gets.
    fileprivate let own: IPPrefix
    fileprivate var node: Int?
    fileprivate var device = -1
    fileprivate var attachedAt: PoolInstant?
    fileprivate var detachedAt: PoolInstant?
    package fileprivate(set) var goesWithInstance = false
  }

  package typealias Answer<Value> = (Result<Value, Refusal>) -> Void

  private let clock: VirtualClock
  private let eniLimit: Int
  private var buckets: RequestBuckets
  private var space = SubnetSpace()
  package private(set) var enis: [ENIID: ENI] = [:]
  private var devices: [Int: Set<Int>] = [:]
  private var ownerOf: [IPPrefix: Int] = [:]
  private var podOf: [IPAddress: Int] = [:]
  private var lastENI = 0
  package private(set) var counts = [CallCount](repeating: CallCount(), count: EC2Action.allCases.count)
  /// When the last call was sent.
  package private(set) var lastCallAt: PoolInstant
  /// Violations of invariants, at most twenty.
  package private(set) var violations: [String] = []

  /// - Parameters:
  ///   - eniLimit: ENIs that an instance may have.
  ///   - share: the account has 1/share of its buckets.
  package init(clock: VirtualClock, eniLimit: Int, share: Int = 1) {
    self.clock = clock
    buckets = RequestBuckets(share: share)
    self.eniLimit = eniLimit
    lastCallAt = clock.now
  }

  // MARK: before the burst

  /// Adds a node's primary ENI with its CIDRs at rest; makes no call.
  package func addPrimary(node: Int, _ kind: CIDRKind, count: Int) -> ENI? {
    guard var eni = newENI(kind, count) else { return nil }
    eni.attachedAt = clock.now
    put(&eni, on: node, device: 0)
    enis[eni.id] = eni
    return eni
  }

  // MARK: calls

  /// CreateNetworkInterface with its addresses.
  package func create(_ kind: CIDRKind, count: Int, then answer: @escaping Answer<ENI>) {
    call(.createNetworkInterface, answer) {
      guard let eni = self.newENI(kind, count) else { return .failure(.subnetFull) }
      self.enis[eni.id] = eni
      return .success(eni)
    }
  }

  package func attach(_ id: ENIID, node: Int, device: Int, then answer: @escaping Answer<Void>) {
    call(.attachNetworkInterface, answer) {
      guard var eni = self.enis[id] else { return .failure(.notFound) }
      guard eni.node == nil else { return .failure(.inUse) }
      guard self.devices[node, default: []].count < self.eniLimit else { return .failure(.eniLimit) }
      guard !self.devices[node, default: []].contains(device) else { return .failure(.deviceTaken) }
      self.put(&eni, on: node, device: device)
      eni.attachedAt = self.clock.now
      self.enis[id] = eni
      return .success(())
    }
  }

  /// ModifyNetworkInterfaceAttribute: delete on termination.
  package func mark(_ id: ENIID, then answer: @escaping Answer<Void>) {
    call(.modifyNetworkInterfaceAttribute, answer) {
      guard self.enis[id] != nil else { return .failure(.notFound) }
      self.enis[id]?.goesWithInstance = true
      return .success(())
    }
  }

  package func assign(_ kind: CIDRKind, count: Int, to id: ENIID, then answer: @escaping Answer<[IPPrefix]>) {
    call(.assignPrivateIpAddresses, answer) {
      guard let eni = self.enis[id] else { return .failure(.notFound) }
      guard let cidrs = self.space.take(kind, count) else { return .failure(.subnetFull) }
      self.enis[id]?.cidrs += cidrs
      if let node = eni.node { self.own(cidrs, by: node) }
      return .success(cidrs)
    }
  }

  package func unassign(_ cidrs: [IPPrefix], from id: ENIID, then answer: @escaping Answer<Void>) {
    call(.unassignPrivateIpAddresses, answer) {
      guard let eni = self.enis[id], cidrs.allSatisfy({ eni.cidrs.contains($0) }) else { return .failure(.notFound) }
      self.enis[id]?.cidrs.removeAll { cidrs.contains($0) }
      self.release(cidrs)
      for prefix in cidrs { self.space.giveBack(prefix) }
      return .success(())
    }
  }

  package func detach(_ id: ENIID, then answer: @escaping Answer<Void>) {
    call(.detachNetworkInterface, answer) {
      guard var eni = self.enis[id], let node = eni.node else { return .failure(.notFound) }
      self.devices[node]?.remove(eni.device)
      self.release(eni.cidrs)
      eni.node = nil
      eni.detachedAt = self.clock.now
      self.enis[id] = eni
      return .success(())
    }
  }

  package func delete(_ id: ENIID, then answer: @escaping Answer<Void>) {
    call(.deleteNetworkInterface, answer) {
      guard let eni = self.enis[id] else { return .failure(.notFound) }
      if eni.node != nil { return .failure(.inUse) }
      if let left = eni.detachedAt, self.clock.now < left + EC2Action.detachmentLag { return .failure(.inUse) }
      for prefix in eni.cidrs + [eni.own] { self.space.giveBack(prefix) }
      self.enis[id] = nil
      return .success(())
    }
  }

  /// A describe call. The caller reads the result from `enis`.
  package func describe(_ action: EC2Action, then answer: @escaping Answer<Void>) {
    call(action, answer) { .success(()) }
  }

  private func call<Value>(
    _ action: EC2Action, _ answer: @escaping Answer<Value>, _ act: @escaping () -> Result<Value, Refusal>
  ) {
    lastCallAt = clock.now
    guard buckets.admit(action, now: clock.now) else {
      counts[action.rawValue].refused += 1
      return clock.after(EC2Action.refusalLatency) { answer(.failure(.throttled)) }
    }
    counts[action.rawValue].accepted += 1
    clock.after(action.latency) { answer(act()) }
  }

  // MARK: state that is visible without a call

  /// Whether IMDS and the kernel of its node show the ENI.
  package func isVisible(_ id: ENIID) -> Bool {
    guard let attachedAt = enis[id]?.attachedAt else { return false }
    return clock.now >= attachedAt + EC2Action.attachmentLag
  }

  package func isAttached(_ id: ENIID) -> Bool { enis[id]?.node != nil }

  package func enis(of node: Int) -> [(eni: ENI, device: Int)] {
    enis.values.filter { $0.node == node }.map { ($0, $0.device) }.sorted { $0.device < $1.device }
  }

  /// Checks an address that a pod of a node received.
  package func claim(_ address: IPAddress, pod: Int, node: Int) {
    if let other = podOf[address] { violate("\(address) has pod \(other) and pod \(pod)") }
    podOf[address] = pod
    let owner = ownerOf[IPPrefix(single: address)] ?? IPPrefix(containing: address, length: 28).flatMap { ownerOf[$0] }
    if owner != node { violate("\(address) of pod \(pod) is not on node \(node)") }
  }

  /// Checks that no pod has what a node releases: in this model pods never end.
  private func release(_ cidrs: [IPPrefix]) {
    for prefix in cidrs {
      ownerOf[prefix] = nil
      for offset in 0..<prefix.count {
        if let address = prefix.address(at: offset), let pod = podOf[address] {
          violate("\(address) of pod \(pod) is given back")
        }
      }
    }
  }

  private func violate(_ text: String) {
    if violations.count < 20 { violations.append(text) }
  }

  // MARK: ENIs

  private func newENI(_ kind: CIDRKind, _ count: Int) -> ENI? {
    guard let own = space.take(.address, 1)?.first else { return nil }
    lastENI += 1
    guard let cidrs = space.take(kind, count), let id = ENIID("eni-\(lastENI)") else {
      space.giveBack(own)
      return nil
    }
    return ENI(id: id, cidrs: cidrs, own: own)
  }

  private func put(_ eni: inout ENI, on node: Int, device: Int) {
    eni.node = node
    eni.device = device
    devices[node, default: []].insert(device)
    own(eni.cidrs, by: node)
  }

  private func own(_ cidrs: [IPPrefix], by node: Int) {
    for prefix in cidrs {
      if let other = ownerOf[prefix] { violate("\(prefix) is on node \(other) and node \(node)") }
      ownerOf[prefix] = node
    }
  }
}
