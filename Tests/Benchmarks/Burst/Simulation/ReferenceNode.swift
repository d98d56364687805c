// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A node with the policy of amazon-vpc-cni-k8s v1.23, as far as it affects a burst of new pods.
///
/// One loop does everything: 2.5 s, one growth round, 2.5 s. A round makes one AssignPrivateIpAddresses call or
/// attaches one ENI with six sequential calls; the next round begins after it ends. An ADD that finds no free address
/// fails at once. Where there is a choice, the model favors amazon-vpc-cni-k8s (docs/scale.md).
package final class ReferenceNode: BurstNode {
  private struct ENI {
    let id: ENIID
    var cidrs: Int
  }

  static let sleep = Duration.milliseconds(2500)
  /// The pool does not grow for this long after EC2 reports insufficient addresses.
  static let pause = Duration.seconds(120)
  /// The wait between two attempts to set up an ENI.
  static let setUpWait = Duration.seconds(10)
  static let setUpTries = 6
  static let removalTries = 12

  private let number: Int
  private let settings: PoolSettings
  private let clock: VirtualClock
  private let ec2: SimulatedEC2
  private let sdk: SDKClient
  private var random: SplitMix64
  private var enis: [ENI] = []
  private var free: [IPAddress] = []
  private var nextFree = 0
  private var total = 0
  private var pausedUntil: PoolInstant?

  package init(number: Int, scenario: Scenario, clock: VirtualClock, ec2: SimulatedEC2, seed: UInt64) {
    self.number = number
    settings = scenario.settings
    self.clock = clock
    self.ec2 = ec2
    random = SplitMix64(seed: seed)
    sdk = SDKClient(clock: clock, seed: random.next(), hasTokens: scenario.sdkTokens)
  }

  /// Starts idle, at a random point of its loop.
  package func start(primary: SimulatedEC2.ENI) {
    enis = [ENI(id: primary.id, cidrs: 0)]
    take(primary.cidrs, on: 0)
    clock.after(ReferenceNode.sleep * 2 * Double.random(in: 0..<1, using: &random)) { self.loop() }
  }

  package func add(pod: Int, answer: @escaping (IPAddress?) -> Void) {
    guard nextFree < free.count else { return answer(nil) }
    let address = free[nextFree]
    nextFree += 1
    ec2.claim(address, pod: pod, node: number)
    answer(address)
  }

  private func take(_ cidrs: [IPPrefix], on index: Int) {
    enis[index].cidrs += cidrs.count
    for prefix in cidrs {
      total += prefix.count
      for offset in 0..<prefix.count { if let address = prefix.address(at: offset) { free.append(address) } }
    }
  }

  // MARK: the loop

  private func loop() {
    grow {
      // The other half of the tick only reads IMDS.
      self.clock.after(ReferenceNode.sleep * 2) { self.loop() }
    }
  }

  private var available: Int { free.count - nextFree }

  /// Whether there are fewer free addresses than the target. The total never exceeds the pods that the node may have.
  package var isTooLow: Bool {
    guard total < settings.maxPods else { return false }
    let unit = settings.usesPrefixes ? PoolSettings.addressesPerPrefix : settings.slotsPerENI
    let warm = settings.usesPrefixes ? settings.warmPrefixTarget : settings.warmENITarget
    return available < unit * warm || (warm == 0 && available == 0)
  }

  private func grow(_ end: @escaping () -> Void) {
    if let pausedUntil, pausedUntil > clock.now { return end() }
    guard isTooLow else { return end() }
    guard let index = enis.firstIndex(where: { $0.cidrs < settings.slotsPerENI }) else {
      return enis.count < settings.eniLimit ? attach(end) : end()
    }
    let room = settings.slotsPerENI - enis[index].cidrs
    assign(settings.usesPrefixes ? wantedPrefixes : room, to: index) { refusal in
      // One more attempt with the smallest possible request.
      guard refusal != nil else { return end() }
      self.assign(1, to: index) { refusal in
        if refusal == .subnetFull { self.pausedUntil = self.clock.now + ReferenceNode.pause }
        end()
      }
    }
  }

  /// The free prefixes missing from WARM_PREFIX_TARGET; a partly used prefix does not count as free.
  private var wantedPrefixes: Int {
    max(1, settings.warmPrefixTarget - available / PoolSettings.addressesPerPrefix)
  }

  private func assign(_ count: Int, to index: Int, _ end: @escaping (SimulatedEC2.Refusal?) -> Void) {
    let id = enis[index].id
    sdk.call {
      self.ec2.assign(self.settings.kind, count: count, to: id, then: $0)
    } then: { result in
      switch result {
      case .success(let cidrs):
        self.take(cidrs, on: index)
        end(nil)
      case .failure(let refusal): end(refusal)
      }
    }
  }

  // MARK: one more ENI: six calls

  private func attach(_ end: @escaping () -> Void) {
    let count = settings.usesPrefixes ? wantedPrefixes : settings.slotsPerENI
    describe(.describeSubnets) { _ in  // on failure: the primary ENI's subnet
      self.sdk.call {
        self.ec2.create(self.settings.kind, count: count, then: $0)
      } then: { created in
        guard case .success(let eni) = created else {
          if case .failure(.subnetFull) = created { self.pausedUntil = self.clock.now + ReferenceNode.pause }
          return end()
        }
        // Finds the lowest free device index.
        self.describe(.describeInstances) { isDescribed in
          guard isDescribed else { return self.delete(eni.id, end) }
          self.plugIn(eni, end)
        }
      }
    }
  }

  private func plugIn(_ eni: SimulatedEC2.ENI, _ end: @escaping () -> Void) {
    let device = enis.count
    sdk.call {
      self.ec2.attach(eni.id, node: self.number, device: device, then: $0)
    } then: { attached in
      guard case .success = attached else { return self.delete(eni.id, end) }
      self.sdk.call {
        self.ec2.mark(eni.id, then: $0)
      } then: { marked in
        guard case .success = marked else {
          return self.free(eni.id) {
            // The next reconcile adopts an ENI that could not be detached.
            if self.ec2.isAttached(eni.id) { self.adopt(eni) }
            end()
          }
        }
        self.awaitVisible(eni, wait: .milliseconds(100), end)
      }
    }
  }

  /// Checks IMDS after 100 ms, then doubles the wait each time.
  private func awaitVisible(_ eni: SimulatedEC2.ENI, wait: Duration, _ end: @escaping () -> Void) {
    clock.after(wait * (1 + Double.random(in: 0..<0.15, using: &random))) {
      guard self.ec2.isVisible(eni.id) else { return self.awaitVisible(eni, wait: wait * 2, end) }
      self.setUp(eni, tries: ReferenceNode.setUpTries, end)
    }
  }

  /// The set-up checks whether the subnet is excluded. If it gives up, it adopts the ENI anyway.
  private func setUp(_ eni: SimulatedEC2.ENI, tries: Int, _ end: @escaping () -> Void) {
    describe(.describeSubnets) { isDescribed in
      guard isDescribed || tries <= 1 else {
        return self.clock.after(ReferenceNode.setUpWait) { self.setUp(eni, tries: tries - 1, end) }
      }
      self.adopt(eni)
      end()
    }
  }

  private func adopt(_ eni: SimulatedEC2.ENI) {
    enis.append(ENI(id: eni.id, cidrs: 0))
    take(eni.cidrs, on: enis.count - 1)
  }

  private func describe(_ action: EC2Action, _ end: @escaping (Bool) -> Void) {
    sdk.call {
      self.ec2.describe(action, then: $0)
    } then: { result in
      if case .success = result { end(true) } else { end(false) }
    }
  }

  // MARK: release

  private func free(_ eni: ENIID, _ end: @escaping () -> Void) {
    describe(.describeNetworkInterfaces) { isDescribed in
      guard isDescribed else { return end() }
      self.repeatedly(.milliseconds(200), { self.ec2.detach(eni, then: $0) }) {
        self.clock.after(.seconds(2)) { self.delete(eni, end) }
      }
    }
  }

  private func delete(_ eni: ENIID, _ end: @escaping () -> Void) {
    repeatedly(.milliseconds(500), { self.ec2.delete(eni, then: $0) }, end)
  }

  /// Makes at most twelve calls, with waits that double up to a minute.
  private func repeatedly(
    _ first: Duration, _ call: @escaping (@escaping SimulatedEC2.Answer<Void>) -> Void, _ end: @escaping () -> Void
  ) {
    func attempt(_ number: Int, _ wait: Duration) {
      sdk.call(call) { result in
        guard case .failure(let refusal) = result, refusal != .notFound, number < ReferenceNode.removalTries else {
          return end()
        }
        let jitter = Double.random(in: 0..<0.15, using: &self.random)
        self.clock.after(wait * (1 + jitter)) { attempt(number + 1, min(wait * 2, .seconds(60))) }
      }
    }
    attempt(1, first)
  }
}
