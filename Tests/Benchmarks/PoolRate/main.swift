// SPDX-License-Identifier: Apache-2.0
//
// Measures how many assignments and releases a second the pool's value does, on nodes of several sizes, with half of
// the addresses in use and cooldowns in progress, and the cost of making the checkpoint's whole text after each change.
// Prints one JSON array to standard output; `make bench ONLY=pool` reads it.

import VPCModel

/// One node that has all its addresses.
struct RateNode {
  let enis: Int
  let slots: Int
  private var pool: Pool
  private var time = PoolTime(
    instant: PoolInstant(sinceBoot: .seconds(1000)), unixNanoseconds: 1_700_000_000_000_000_000)
  private let keys: [AttachmentKey]
  private var nextWaiter: UInt64 = 0
  private var pair = 0
  private(set) var refused = 0
  private var document = CheckpointDocument()
  private(set) var textBytes = 0

  init(enis: Int, slots: Int, cooldown: Duration = .seconds(30)) {
    self.enis = enis
    self.slots = slots
    // There are more slots and ENIs than pods: the pool neither grows nor shrinks.
    pool = Pool(
      settings: PoolSettings(
        instanceENILimit: enis, slotsPerENI: slots, maxPods: enis * slots, warmENITarget: 1, cooldown: cooldown),
      seed: 1)
    keys = (0..<enis * slots).map {
      AttachmentKey(
        networkName: "aws-cni", containerID: String(repeating: "0", count: 58) + "\(100_000 + $0)", ifName: "eth0")
    }
    var observed: [ENIObservation] = []
    for eni in 0..<enis {
      guard let id = ENIID("eni-\(eni)"), let subnet = SubnetID("subnet-1") else { continue }
      let first = UInt32(0x0a00_0000 + eni << 8)
      observed.append(
        ENIObservation(
          id: id, device: eni, subnet: subnet,
          cidrs: (1...slots).map { IPPrefix(single: IPAddress(ipv4: first + UInt32($0))) }, isWired: true))
    }
    _ = pool.handle(.started(PoolStart(enis: observed)), now: time)
    for pod in 0..<enis * slots / 2 { add(pod) }
  }

  mutating func add(_ pod: Int) {
    nextWaiter += 1
    let request = AddRequest(
      waiter: WaiterID(nextWaiter), key: keys[pod], pod: PodName(namespace: "default", name: "web"),
      deadline: time.instant + .seconds(20))
    let actions = pool.handle(.add(request), now: time)
    guard case .answerAdd(_, .assigned) = actions.dropFirst().first else {
      refused += 1
      return
    }
  }

  mutating func delete(_ pod: Int) {
    nextWaiter += 1
    _ = pool.handle(.delete(keys[pod], WaiterID(nextWaiter)), now: time)
  }

  /// Runs pairs of an assignment and the release of the oldest address. Each pair is a fraction of a cooldown later
  /// than the one before, so that as many cooldowns end as begin.
  mutating func run(pairs: Int) {
    let total = keys.count
    let step = Duration.nanoseconds(30_000_000_000 / Int64(max(total / 4, 1)))
    for _ in 0..<pairs {
      time.instant = time.instant + step
      delete(pair % total)
      add((pair + total / 2) % total)
      pair += 1
    }
  }
}

extension RateNode {
  /// The same, with the checkpoint's text after each change, which the agent makes before it writes the file.
  mutating func runWritten(pairs: Int) {
    let total = keys.count
    for _ in 0..<pairs {
      delete(pair % total)
      makeText()
      add((pair + total / 2) % total)
      makeText()
      pair += 1
    }
  }

  private mutating func makeText() {
    pool.update(&document)
    textBytes = document.withBytes(cooldowns: pool.cooldowns(now: time)) { $0.count }
  }
}

/// Microseconds of one change with its text: the best of three rounds.
func textCost(enis: Int, slots: Int, changes: Int) -> (microseconds: Double, bytes: Int) {
  var node = RateNode(enis: enis, slots: slots, cooldown: .zero)
  var best = Double.infinity
  for _ in 0..<3 {
    node.runWritten(pairs: changes / 20)
    let took = ContinuousClock().measure { node.runWritten(pairs: changes / 2) }
    let (seconds, attoseconds) = took.components
    best = min(best, (Double(seconds) * 1e6 + Double(attoseconds) / 1e12) / Double(changes))
  }
  return (best, node.textBytes)
}

/// Pairs a second: the best of three rounds, because other work on the machine can only add time.
func rate(enis: Int, slots: Int, pairs: Int) -> (rate: Double, refused: Int) {
  var best = 0.0
  var refused = 0
  for _ in 0..<3 {
    var node = RateNode(enis: enis, slots: slots)
    node.run(pairs: pairs / 10)
    let clock = ContinuousClock()
    let took = clock.measure { node.run(pairs: pairs) }
    let (seconds, attoseconds) = took.components
    best = max(best, Double(pairs) / (Double(seconds) + Double(attoseconds) / 1e18))
    refused += node.refused
  }
  return (best, refused)
}

let rows = [(2, 9), (4, 29), (15, 49), (15, 50), (30, 50), (60, 50)].map { enis, slots in
  let measured = rate(enis: enis, slots: slots, pairs: 1_000_000)
  let text = textCost(enis: enis, slots: slots, changes: 4000)
  return
    "{\"enis\":\(enis),\"slots\":\(slots),\"pairsPerSecond\":\(Int(measured.rate)),\"refused\":\(measured.refused),"
    + "\"textMicroseconds\":\(text.microseconds),\"textBytes\":\(text.bytes)}"
}
print("[\(rows.joined(separator: ","))]")
