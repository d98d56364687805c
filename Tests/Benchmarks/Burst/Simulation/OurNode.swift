// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A node with our policy: the real `Pool` value. Its actions run against the simulated EC2 as they do in the agent.
///
/// The procedures follow Sources/Modes/Agent/Cloud/NodeENIs.swift; the retries follow EC2Client and RetryPolicy. A
/// mutating call that EC2 throttles fails at once, but Attach and Modify of an existing ENI are retried with growing,
/// jittered waits.
package final class OurNode: BurstNode {
  private let number: Int
  private let clock: VirtualClock
  private let ec2: SimulatedEC2
  private let patience: Duration
  private let tailAttempts: Int
  private var random: SplitMix64
  private var pool: Pool
  private var lastWaiter: UInt64 = 0
  private var answers: [WaiterID: (pod: Int, key: AttachmentKey, answer: (IPAddress?) -> Void)] = [:]
  private var wakeAt: PoolInstant?

  /// Retries of one Attach or Modify: attempts, waits and time limit, as in NodeENIs.
  static let tailAttempts = 12
  static let tailBase = Duration.seconds(1)
  static let tailCap = Duration.seconds(8)
  static let tailLimit = Duration.seconds(90)
  /// The time to set up an ENI in the kernel once it is visible.
  static let wiringLatency = Duration.milliseconds(50)

  // swift-format-ignore: NeverForceUnwrap
  private static let subnet = SubnetID("subnet-1")!

  package init(number: Int, scenario: Scenario, clock: VirtualClock, ec2: SimulatedEC2, seed: UInt64) {
    self.number = number
    self.clock = clock
    self.ec2 = ec2
    patience = scenario.patience
    tailAttempts = scenario.retriesTail ? OurNode.tailAttempts : 1
    random = SplitMix64(seed: seed)
    pool = Pool(settings: scenario.settings, seed: random.next())
  }

  /// Starts idle, with the primary ENI as EC2 has it.
  package func start(primary: SimulatedEC2.ENI) {
    let observed = ENIObservation(
      id: primary.id, device: 0, subnet: OurNode.subnet, cidrs: primary.cidrs, isWired: true)
    feed(.started(PoolStart(enis: [observed])))
  }

  package var counts: PoolCounts { pool.counts }

  package func add(pod: Int, answer: @escaping (IPAddress?) -> Void) {
    lastWaiter += 1
    let waiter = WaiterID(lastWaiter)
    // A new sandbox has a new container ID.
    let key = AttachmentKey(networkName: "aws-cni", containerID: "\(pod)-\(lastWaiter)", ifName: "eth0")
    answers[waiter] = (pod, key, answer)
    feed(
      .add(
        AddRequest(
          waiter: waiter, key: key, pod: PodName(namespace: "default", name: "\(pod)"), deadline: clock.now + patience))
    )
  }

  // MARK: events in, actions out

  private func feed(_ event: PoolEvent) {
    let time = PoolTime(instant: clock.now, unixNanoseconds: clock.now.nanoseconds)
    for action in pool.handle(event, now: time) { carryOut(action) }
  }

  private func carryOut(_ action: PoolAction) {
    switch action {
    case .persist, .answerDelete: break
    case .answerAdd(let waiter, let answer): tell(waiter, answer)
    case .attachENI(let id, let request): attach(request) { self.feed(.ended(id, $0)) }
    case .assign(let id, let eni, let kind, let count):
      ec2.assign(kind, count: count, to: eni) { result in
        self.feed(.ended(id, OurNode.ended(result, .assignPrivateIpAddresses) { .assigned($0) }))
      }
    case .unassign(let id, let eni, let cidrs):
      ec2.unassign(cidrs, from: eni) { result in
        self.feed(.ended(id, OurNode.ended(result, .unassignPrivateIpAddresses) { .done }))
      }
    case .freeENI(let id, let eni): free(eni) { self.feed(.ended(id, $0)) }
    case .wireENI(let id, let eni): wire(eni.id) { self.feed(.ended(id, .done)) }
    case .listENIs(let id): list { self.feed(.ended(id, $0)) }
    case .wake(let instant): setWake(instant)
    }
  }

  private func tell(_ waiter: WaiterID, _ answer: AddAnswer) {
    guard let asked = answers.removeValue(forKey: waiter) else { return }
    switch answer {
    case .assigned(let assignment):
      ec2.claim(assignment.address, pod: asked.pod, node: number)
      asked.answer(assignment.address)
    case .failed:
      asked.answer(nil)
      // The container runtime deletes the failed sandbox.
      lastWaiter += 1
      let waiter = WaiterID(lastWaiter)
      clock.after(.zero) { self.feed(.delete(asked.key, waiter)) }
    }
  }

  private func setWake(_ instant: PoolInstant) {
    wakeAt = instant
    clock.at(instant) {
      guard self.wakeAt == instant else { return }
      self.wakeAt = nil
      self.feed(.tick)
    }
  }

  // MARK: procedures

  private func attach(_ request: AttachRequest, _ end: @escaping (ActionResult) -> Void) {
    ec2.create(request.kind, count: request.count) { created in
      guard case .success(let eni) = created else {
        return end(OurNode.ended(created, .createNetworkInterface) { _ in .done })
      }
      self.patiently(
        { self.ec2.attach(eni.id, node: self.number, device: request.device, then: $0) }, attempts: self.tailAttempts
      ) { attached in
        guard case .success = attached else {
          return self.discard(eni.id, isAttached: false) {
            end(OurNode.ended(attached, .attachNetworkInterface) { .done })
          }
        }
        self.patiently({ self.ec2.mark(eni.id, then: $0) }, attempts: self.tailAttempts) { marked in
          // EC2 throttles for long: the ENI is usable anyway, and is marked later.
          if case .failure(let refusal) = marked, refusal != .throttled {
            return self.discard(eni.id, isAttached: true) {
              end(OurNode.ended(marked, .modifyNetworkInterfaceAttribute) { .done })
            }
          }
          end(
            .attached(
              ENIObservation(id: eni.id, device: request.device, subnet: request.subnet, cidrs: eni.cidrs)))
        }
      }
    }
  }

  /// Retries a refused call with full jitter, as `RetryPolicy` does.
  private func patiently(
    _ call: @escaping (@escaping SimulatedEC2.Answer<Void>) -> Void, attempts: Int,
    base: Duration = OurNode.tailBase, cap: Duration = OurNode.tailCap, limit: Duration = OurNode.tailLimit,
    mayRepeat: @escaping (SimulatedEC2.Refusal) -> Bool = { $0 == .throttled },
    _ end: @escaping SimulatedEC2.Answer<Void>
  ) {
    let deadline = clock.now + limit
    func attempt(_ number: Int) {
      call { result in
        guard case .failure(let refusal) = result, mayRepeat(refusal), number < attempts else { return end(result) }
        let bound = min(cap, base * (1 << min(number - 1, 20)))
        let wait = bound * Double.random(in: 0..<1, using: &self.random)
        guard self.clock.now + wait < deadline else { return end(result) }
        self.clock.after(wait) { attempt(number + 1) }
      }
    }
    attempt(1)
  }

  private func free(_ eni: ENIID, _ end: @escaping (ActionResult) -> Void) {
    ec2.detach(eni) { result in
      guard case .success = result else { return end(OurNode.ended(result, .detachNetworkInterface) { .done }) }
      self.delete(eni) { end(.done) }
    }
  }

  private func discard(_ eni: ENIID, isAttached: Bool, _ end: @escaping () -> Void) {
    guard isAttached else { return delete(eni, end) }
    ec2.detach(eni) { result in
      if case .success = result { self.delete(eni, end) } else { end() }
    }
  }

  private func delete(_ eni: ENIID, _ end: @escaping () -> Void) {
    patiently(
      { self.ec2.delete(eni, then: $0) }, attempts: 12, base: .milliseconds(200), cap: .seconds(20),
      limit: .seconds(180), mayRepeat: { $0 == .throttled || $0 == .inUse }
    ) { _ in end() }
  }

  private func wire(_ eni: ENIID, _ end: @escaping () -> Void) {
    guard ec2.isVisible(eni) else {
      return clock.after(.milliseconds(50)) { self.wire(eni, end) }
    }
    clock.after(OurNode.wiringLatency, end)
  }

  private func list(_ end: @escaping (ActionResult) -> Void) {
    let asked = clock.now
    patiently(
      { self.ec2.describe(.describeNetworkInterfaces, then: $0) }, attempts: 6, base: .milliseconds(250),
      cap: .seconds(5), limit: .seconds(30)
    ) { result in
      end(
        OurNode.ended(result, .describeNetworkInterfaces) {
          let enis = self.ec2.enis(of: self.number).map {
            ENIObservation(id: $0.eni.id, device: $0.device, subnet: OurNode.subnet, cidrs: $0.eni.cidrs)
          }
          return .listed(ENIListing(enis: enis, askedAt: asked, isAuthoritative: true))
        })
    }
  }

  private static func ended<Value>(
    _ result: Result<Value, SimulatedEC2.Refusal>, _ action: EC2Action, _ success: (Value) -> ActionResult
  ) -> ActionResult {
    switch result {
    case .success(let value): success(value)
    case .failure(.throttled): .failed(ActionFailure(.throttled(call: action.name)))
    case .failure(.subnetFull): .failed(ActionFailure(.subnetFull))
    case .failure(.notFound): .failed(ActionFailure(.eniGone))
    case .failure(.deviceTaken): .failed(ActionFailure(.deviceTaken))
    case .failure(.eniLimit): .failed(ActionFailure(.attachmentLimit))
    case .failure(.inUse): .failed(ActionFailure(.other("in use")))
    }
  }
}
