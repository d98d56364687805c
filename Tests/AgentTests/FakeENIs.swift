// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import Testing
import VPCModel

@testable import AgentMode

/// An EC2 and a kernel in memory: ENIs with their addresses, limits that are enforced, and calls that can be held.
///
/// A held call waits until it is released or its task is cancelled; a stuck call ignores even the cancellation.
final class FakeENIs: ENIOperations {
  enum Verb: Hashable { case attach, wire, route, assign, unassign, free, list }

  struct ENI: Sendable {
    var device: Int
    var cidrs: [IPPrefix]
    var isWired: Bool
  }

  private struct State {
    var enis: [ENIID: ENI] = [:]
    var nextHost: UInt32 = 0x0a00_0010
    var failures: [Verb: [ActionFailure]] = [:]
    var held: Set<Verb> = []
    var isStuck = false
    var waiting: [(verb: Verb, continuation: CheckedContinuation<Void, Never>)] = []
    var arrivals: [(verb: Verb, continuation: CheckedContinuation<Void, Never>)] = []
    var refusals: [String] = []
    var wanted: WantedENIs?
  }

  // swift-format-ignore: NeverForceUnwrap
  static let subnet = SubnetID("subnet-1")!
  // swift-format-ignore: NeverForceUnwrap
  static let primary = ENIID("eni-0")!

  let eniLimit: Int
  let slots: Int
  private let state = Mutex(State())

  /// - Parameter addresses: the number of secondary addresses of the primary ENI at the start.
  init(eniLimit: Int = 3, slots: Int = 4, addresses: Int = 0) {
    self.eniLimit = eniLimit
    self.slots = slots
    state.withLock { state in
      let cidrs = (0..<addresses).map { _ in FakeENIs.next(&state) }
      state.enis[FakeENIs.primary] = ENI(device: 0, cidrs: cidrs, isWired: true)
    }
  }

  // MARK: what a test does

  func hold(_ verb: Verb, stuck: Bool = false) {
    state.withLock {
      $0.held.insert(verb)
      $0.isStuck = stuck
    }
  }

  func letGo(_ verb: Verb) {
    let waiting = state.withLock { state in
      state.held.remove(verb)
      let found = state.waiting.filter { $0.verb == verb }
      state.waiting.removeAll { $0.verb == verb }
      return found
    }
    for each in waiting { each.continuation.resume() }
  }

  func fail(_ verb: Verb, _ failure: ActionFailure) {
    state.withLock { $0.failures[verb, default: []].append(failure) }
  }

  /// Returns once a held call of this kind is waiting.
  func arrival(of verb: Verb) async {
    await withCheckedContinuation { continuation in
      let isThere = state.withLock { state in
        if state.waiting.contains(where: { $0.verb == verb }) { return true }
        state.arrivals.append((verb, continuation))
        return false
      }
      if isThere { continuation.resume() }
    }
  }

  var enis: [ENIID: ENI] { state.withLock { $0.enis } }
  /// Calls that EC2 would have refused: there must be none.
  var refusals: [String] { state.withLock { $0.refusals } }
  /// What the kernel was brought to last.
  var wanted: WantedENIs? { state.withLock { $0.wanted } }
  var addresses: Set<IPAddress> { Set(enis.values.flatMap(\.cidrs).map(\.address)) }

  var observations: [ENIObservation] {
    enis.map {
      ENIObservation(
        id: $0.key, device: $0.value.device, subnet: FakeENIs.subnet, cidrs: $0.value.cidrs, isWired: $0.value.isWired)
    }
  }

  /// One ENI as EC2 would show it, already wired.
  static func observation(_ id: String, device: Int, addresses: [String]) -> ENIObservation {
    // swift-format-ignore: NeverForceUnwrap
    ENIObservation(
      id: ENIID(id)!, device: device, subnet: subnet, cidrs: addresses.map { IPPrefix(single: IPAddress($0)!) },
      isWired: true)
  }

  // MARK: what the pool asks

  func attach(_ request: AttachRequest, held: @escaping @Sendable (String) -> Void) async -> ActionResult {
    await pass(.attach) { state in
      guard state.enis.count < self.eniLimit else {
        return self.refuse("attach above the limit", .attachmentLimit, &state)
      }
      guard !state.enis.values.contains(where: { $0.device == request.device }) else {
        return self.refuse("attach at a taken index", .deviceTaken, &state)
      }
      guard let id = ENIID("eni-a\(request.device)") else { return .done }
      let cidrs = (0..<request.count).map { _ in FakeENIs.next(&state) }
      state.enis[id] = ENI(device: request.device, cidrs: cidrs, isWired: false)
      return .attached(
        ENIObservation(id: id, device: request.device, subnet: request.subnet, cidrs: cidrs, isWired: false))
    }
  }

  func converge(to wanted: WantedENIs, _ scope: NodeNetwork.Scope) async throws {
    state.withLock { $0.wanted = wanted }
    let result: ActionResult
    switch scope {
    case .eni(let eni):
      result = await pass(.wire) { state in
        guard state.enis[eni] != nil else { return self.refuse("wire of an absent ENI", .eniGone, &state) }
        state.enis[eni]?.isWired = true
        return .done
      }
    case .sources: result = await pass(.route) { _ in .done }
    case .removal: result = .done
    }
    if case .failed(let failure) = result { throw failure }
  }

  func assign(_ count: Int, _ kind: CIDRKind, to eni: ENIID) async -> ActionResult {
    await pass(.assign) { state in
      guard let held = state.enis[eni]?.cidrs.count else { return self.refuse("assign to nothing", .eniGone, &state) }
      guard held + count <= self.slots else { return self.refuse("assign above the limit", .addressLimit, &state) }
      let cidrs = (0..<count).map { _ in FakeENIs.next(&state) }
      state.enis[eni]?.cidrs += cidrs
      return .assigned(cidrs)
    }
  }

  func unassign(_ cidrs: [IPPrefix], from eni: ENIID) async -> ActionResult {
    await pass(.unassign) { state in
      state.enis[eni]?.cidrs.removeAll { cidrs.contains($0) }
      return .done
    }
  }

  func free(_ eni: ENIID) async -> ActionResult {
    await pass(.free) { state in
      state.enis[eni] = nil
      return .done
    }
  }

  func list() async -> ActionResult {
    let asked = PoolClock.now().instant
    let result = await pass(.list) { _ in .done }
    guard case .done = result else { return result }
    return .listed(ENIListing(enis: observations, askedAt: asked, isAuthoritative: true))
  }

  // MARK: internals

  private func pass(_ verb: Verb, _ act: (inout State) -> ActionResult) async -> ActionResult {
    await gate(verb)
    if Task.isCancelled { return .failed(ActionFailure(.other("cancelled"))) }
    return state.withLock { state in
      if var failures = state.failures[verb], !failures.isEmpty {
        let failure = failures.removeFirst()
        state.failures[verb] = failures
        return .failed(failure)
      }
      return act(&state)
    }
  }

  private func gate(_ verb: Verb) async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        let resumed: [CheckedContinuation<Void, Never>] = state.withLock { state in
          guard state.held.contains(verb), !Task.isCancelled || state.isStuck else { return [continuation] }
          state.waiting.append((verb, continuation))
          let arrived = state.arrivals.filter { $0.verb == verb }.map(\.continuation)
          state.arrivals.removeAll { $0.verb == verb }
          return arrived
        }
        for each in resumed { each.resume() }
      }
    } onCancel: {
      if !state.withLock({ $0.isStuck }) { letGo(verb) }
    }
  }

  private func refuse(_ what: String, _ fault: ActionFailure.Fault, _ state: inout State) -> ActionResult {
    state.refusals.append(what)
    return .failed(ActionFailure(fault))
  }

  private static func next(_ state: inout State) -> IPPrefix {
    state.nextHost += 1
    return IPPrefix(single: IPAddress(ipv4: state.nextHost))
  }
}
