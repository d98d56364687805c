// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// Limits of ENIs: those of the instance type, those of each network card, and those learnt from EC2's refusals. A
/// success of another call does not make the pool forget what a refusal taught.
@Suite struct PoolLimitTests {
  static let settings = PoolSettings(instanceENILimit: 4, slotsPerENI: 3, maxPods: 50)

  private func text(_ cause: FailureCause?) -> String { cause.map { "\($0)" } ?? "" }

  /// Each network card has a pool of its own, with its own limit and device indexes: the first on card 1 is 0.
  @Test func aPoolOfAnotherCardAsksForENIsThere() throws {
    var settings = Self.settings
    settings.card = 1
    var pool = Pool(settings: settings, seed: 1)
    let subnet = try #require(SubnetID("subnet-1"))
    var time = PoolTime(instant: PoolInstant(nanoseconds: 0), unixNanoseconds: 0)
    // Card 0 is full; that does not count here.
    let others = try (0..<4).map { device in
      ENIObservation(id: try #require(ENIID("eni-\(device)")), device: device, subnet: subnet, isManaged: false)
    }
    _ = pool.handle(.subnets([subnet]), now: time)
    var requests: [AttachRequest] = []
    for event in [PoolEvent.started(PoolStart(enis: others)), .tick, .tick] {
      for action in pool.handle(event, now: time) {
        if case .attachENI(_, let request) = action { requests.append(request) }
      }
      time.instant = time.instant + .seconds(2)
    }
    #expect(requests.map(\.card) == [1] && requests.map(\.device) == [0])
    #expect(Checkpoint.path("/run/ipam.json", card: 1) == "/run/ipam-nic-1.json")
    #expect(Checkpoint.path("/run/ipam.json", card: 0) == "/run/ipam.json")
  }

  /// Volumes take slots of the instance, so EC2 attaches fewer ENIs than the type allows. An idle node retries less and
  /// less often, whatever listings succeed in between, and a pod's event quotes the cause in EC2's words.
  @Test func attachmentLimitBelowTheTypesIsLearnt() throws {
    var rig = PoolRig(Self.settings)
    rig.attachable = 2
    rig.start()
    for pod in 0..<6 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect(rig.enis.count == 2 && rig.pool.counts.assigned == 6)
    let refused = rig.add("one-more")
    rig.advance(.seconds(1))
    #expect(
      text(rig.cause(refused)).hasPrefix(
        "EC2 refuses to attach more ENIs (AttachmentLimitExceeded): 2 attached, the instance type allows 4, next try in"
      ), "\(text(rig.cause(refused)))")
    #expect(text(rig.cause(refused)).hasSuffix("EC2 says: Interface count 3 exceeds the limit for m5.large"))
    #expect(rig.pool.learntENILimit == 2)
    #expect(rig.pool.blockedCause(now: rig.now)?.label == "attachment_limit")
    rig.forgetCalls()
    for _ in 0..<360 {
      rig.advance(.seconds(10))
      rig.observe(isAuthoritative: true)
    }
    #expect((rig.calls["attach"] ?? 0) <= 6, "an hour of an idle node: \(rig.calls)")
    #expect((rig.calls["list"] ?? 0) == 0)
    // A volume was detached: the next attempt finds out, and the limit of the type applies again.
    rig.attachable = nil
    rig.advance(.seconds(2 * 3600))
    #expect(rig.pool.learntENILimit == nil && rig.enis.count > 2)
    let served = rig.add("later")
    rig.settle()
    #expect(rig.address(served) != nil)
    #expect(rig.violations == [])
  }

  /// An ENI that is freed leaves its slot to another. The pool need not forget the learnt limit for that.
  @Test func aSlotThatComesFreeIsUsed() {
    var settings = Self.settings
    settings.warmENITarget = 0
    var rig = PoolRig(settings)
    rig.attachable = 2
    rig.start()
    for pod in 0..<6 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.add("refused")
    rig.settle()
    #expect(rig.pool.learntENILimit == 2)
    for pod in 0..<6 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(240))
    #expect(rig.enis.count == 1, "the idle ENI went")
    let waiters = (0..<6).map { rig.add("new-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.pool.learntENILimit == 2 && rig.violations == [])
  }

  /// ENIs of other network cards have limits of their own: a p5 with EFA ENIs on cards 1 to 3 grows on card 0.
  @Test func otherCardsUseUpNothingOfCardZero() throws {
    var rig = PoolRig(Self.settings)
    for card in 1...3 {
      rig.place(try #require(ENIID("eni-efa\(card)")), device: 1, card: card)
    }
    rig.start()
    let waiters = (0..<12).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.enis.values.filter { $0.card == 0 }.map(\.device).sorted() == [0, 1, 2, 3], "the same device indices")
    let refused = rig.add("one-more")
    rig.advance(.seconds(1))
    #expect(rig.cause(refused) == .eniLimitReached(attached: 4, limit: 4))
    #expect(rig.violations == [])
  }

  /// The limit learnt from EC2 also counts card 0 only.
  @Test func learntLimitCountsCardZero() throws {
    var rig = PoolRig(Self.settings)
    rig.place(try #require(ENIID("eni-efa")), device: 1, card: 1)
    rig.attachable = 2
    rig.start()
    for pod in 0..<7 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect(rig.pool.learntENILimit == 2)
    #expect(rig.violations == [])
  }

  @Test func takenDeviceIndexLeadsToTheNext() {
    var rig = PoolRig(PoolFailureTests.m5large)
    rig.fault = { action in
      guard case .attachENI(_, let request) = action, request.device == 1 else { return nil }
      return .init(failure: ActionFailure(.deviceTaken))
    }
    rig.start()
    let waiters = (0..<12).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect((rig.calls["attach"] ?? 0) < 20)
    #expect(rig.violations == [])
  }

  /// An ENI that is being detached keeps its device index, and no listing shows it. The pool does not retry that index
  /// although listings succeed. If EC2 reports every index as taken, the node does not try all of them in turn.
  @Test func takenDeviceIsRemembered() {
    var rig = PoolRig(Self.settings)
    rig.fault = { action in
      guard case .attachENI(_, let request) = action, request.device == 1 else { return nil }
      return .init(failure: ActionFailure(.deviceTaken))
    }
    rig.start()
    for pod in 0..<8 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect(rig.calls["attach"] == 3, "once for the index that is taken: \(rig.calls)")
    var all = PoolRig(Self.settings)
    all.fault = { if case .attachENI = $0 { .init(failure: ActionFailure(.deviceTaken)) } else { nil } }
    all.start()
    for pod in 0..<3 { all.add("pod-\(pod)") }
    all.advance(.seconds(600))
    #expect((all.calls["attach"] ?? 0) < 25, "\(all.calls)")
    #expect(rig.violations == [] && all.violations == [])
  }

  /// EC2 counts more addresses on one ENI than the pool knows. The other ENIs go on growing, and their success does not
  /// make the pool retry that one.
  @Test func oneENIsRefusalIsItsOwn() {
    var settings = Self.settings
    settings.warmIPTarget = 1
    var rig = PoolRig(settings)
    rig.start()
    rig.add("first")
    rig.settle()
    rig.fault = { action in
      guard case .assign(_, PoolRig.primary, _, _) = action else { return nil }
      return .init(failure: ActionFailure(.addressLimit))
    }
    rig.forgetCalls()
    let waiters = (0..<9).map { number in
      defer { rig.advance(.seconds(2)) }
      return rig.add("pod-\(number)")
    }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect((rig.calls["assign"] ?? 0) + (rig.calls["attach"] ?? 0) < 20, "\(rig.calls)")
    #expect(rig.violations == [])
  }

  /// A listing that the pool rejects is not a success. The pool does not query EC2 every second meanwhile.
  @Test func aListingThatIsPutAsideIsAskedForEverMoreSlowly() throws {
    var rig = PoolRig(Self.settings)
    rig.start()
    rig.settle()
    let foreign = ENIObservation(id: try #require(ENIID("eni-x")), device: 9, subnet: PoolRig.subnet)
    rig.answersListing = { [foreign] }
    rig.feed(.observed(ENIListing(enis: [foreign], askedAt: rig.now, isAuthoritative: true)))
    rig.forgetCalls()
    rig.advance(.seconds(600))
    #expect((2..<25).contains(rig.calls["list"] ?? 0), "\(rig.calls)")
    #expect(rig.violations == [])
  }

  // MARK: each cause by its own name

  /// Every ENI is attached, and one of them takes no pods.
  @Test func anENIThatTakesNoPodsIsNamed() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 2, slotsPerENI: 1), unmanagedENIs: 1)
    rig.start()
    rig.add("first")
    rig.settle()
    let refused = rig.add("second")
    rig.advance(.seconds(1))
    #expect(rig.cause(refused) == .enisTakeNoPods(attached: 2, limit: 2, idle: 1))
    #expect(rig.violations == [])
  }

  /// The ENIs are full, and the agent has noticed that pods have ended without a DEL.
  @Test func endedPodsThatHoldAddressesAreNamed() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 1, slotsPerENI: 2))
    rig.start()
    for name in ["one", "two"] { rig.add(name) }
    rig.settle()
    rig.feed(.endedPods(1))
    let third = rig.add("three")
    rig.advance(.seconds(1))
    #expect(rig.cause(third) == .endedPodsHoldAddresses(1))
    rig.feed(.endedPods(0))
    let fourth = rig.add("four")
    rig.advance(.seconds(1))
    #expect(rig.cause(fourth) == .eniLimitReached(attached: 1, limit: 1))
    #expect(rig.violations == [])
  }

  /// The last ENI is attached, but its interface does not appear on the node.
  @Test func anENIThatIsNotReadyIsNamed() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 2, slotsPerENI: 1))
    rig.fault = {
      if case .wireENI = $0 { .init(failure: ActionFailure(.other("no interface has its MAC"))) } else { nil }
    }
    rig.start()
    rig.add("first")
    rig.settle()
    rig.advance(.seconds(120))
    let refused = rig.add("second", timeout: .milliseconds(100))
    rig.advance(.seconds(1))
    #expect(
      text(rig.cause(refused)).contains(
        "eni-a1 is attached but not usable yet: no interface has its MAC, next try in"),
      "\(text(rig.cause(refused)))")
    #expect(rig.violations == [])
  }

  /// The same while the first attempt is still running.
  @Test func anInterfaceThatIsAwaitedIsNamed() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 2, slotsPerENI: 1))
    rig.start()
    rig.add("first")
    // The primary's address and the second ENI arrive; then the node takes a minute to make that ENI ready.
    while rig.calls["attach"] == nil { rig.advance(.milliseconds(50)) }
    rig.latency = .seconds(60)
    rig.advance(.seconds(1))
    let late = rig.add("second", timeout: .seconds(20))
    rig.advance(.seconds(25))
    #expect(text(rig.cause(late)).hasPrefix("no address within 20 s: "), "\(text(rig.cause(late)))")
    #expect(text(rig.cause(late)).contains("eni-a1 is attached, but its interface is not ready after"))
    #expect(rig.violations == [])
  }

  /// The event quotes EC2's words and gives a remedy that fits: adding a permission does not help if another policy
  /// denies it.
  @Test(arguments: [
    ("no identity-based policy allows the ec2:CreateNetworkInterface action", "add it to the role"),
    ("with an explicit deny in a service control policy", "remove the deny from the policy that EC2 names"),
  ])
  func ec2sOwnWordsReachTheEvent(_ words: String, _ remedy: String) {
    var settings = Self.settings
    settings.maxENI = 1
    var rig = PoolRig(settings)
    let failure = ActionFailure(
      .unauthorized(permission: "ec2:AssignPrivateIpAddresses"), words: words, record: "\(words), encoded: 4GIOH")
    rig.fault = { if case .assign = $0 { .init(failure: failure) } else { nil } }
    rig.start()
    rig.settle()
    let refused = rig.add("a")
    rig.settle()
    let said = text(rig.cause(refused))
    #expect(said.contains("; \(remedy)") && said.hasSuffix("; EC2 says: \(words)"), "\(said)")
    #expect(rig.pool.holds(now: rig.now).first?.because.hasSuffix(words) == true)
    #expect("\(failure)" == "missing permission ec2:AssignPrivateIpAddresses: \(words), encoded: 4GIOH")
  }
}
