// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// Both policies in one scenario, beside the bound that the buckets set; as text and as JSON.
package struct Comparison: Sendable {
  package let scenario: Scenario
  package let ours: Outcome
  package let reference: Outcome

  package init(_ scenario: Scenario) {
    self.scenario = scenario
    ours = BurstRun.run(scenario, .ours)
    reference = BurstRun.run(scenario, .reference)
  }

  /// The time of our last pod divided by that of amazon-vpc-cni-k8s.
  package var timeRatio: Double? {
    guard let mine = ours.last, let theirs = reference.last else { return nil }
    return mine / theirs
  }

  /// The time of our last pod divided by the bound.
  package var boundRatio: Double? {
    guard let mine = ours.last, let bound = scenario.bound?.seconds, bound > 0 else { return nil }
    return mine / bound
  }

  /// Our calls divided by those of amazon-vpc-cni-k8s, including refused calls. The larger of two ratios: until the
  /// last pod, and in total.
  package var callRatio: Double {
    max(
      Double(ours.total.sent) / Double(max(reference.total.sent, 1)),
      Double(ours.totalAtLast.sent) / Double(max(reference.totalAtLast.sent, 1)))
  }

  /// Our last pod takes at most half the time of amazon-vpc-cni-k8s or 1.2 times the bound, and at most half the calls.
  package var meetsTarget: Bool {
    guard ours.last != nil, ours.violations.isEmpty else { return false }
    // If no pod waits for EC2, there is nothing to be faster at.
    let isFast = (boundRatio ?? .infinity) <= 1.2 || (timeRatio ?? .infinity) <= 0.5
    return isFast && callRatio <= 0.5
  }

  // MARK: JSON

  package var json: JSONValue {
    var object: JSONObject = [
      "name": .string(scenario.name), "nodes": .integer(scenario.nodes), "pods": .integer(scenario.pods),
      "seed": .integer(scenario.seed), "meetsTarget": .bool(meetsTarget),
      "ours": Comparison.json(ours), "reference": Comparison.json(reference),
      "callRatio": Comparison.number(callRatio), "timeRatio": Comparison.number(timeRatio),
      "boundRatio": Comparison.number(boundRatio),
    ]
    if let bound = scenario.bound {
      var calls: JSONObject = [:]
      for action in EC2Action.allCases {
        if let count = scenario.fewestCalls[action] { calls[action.name] = .integer(count) }
      }
      object["bound"] = .object([
        "action": .string(bound.action.name), "seconds": Comparison.number(bound.seconds),
        "callsOfANode": .object(calls),
      ])
    }
    return .object(object)
  }

  private static func json(_ outcome: Outcome) -> JSONValue {
    .object([
      "half": number(outcome.time(of: 0.5)), "most": number(outcome.time(of: 0.99)), "last": number(outcome.last),
      "lastCall": number(outcome.lastCallAt.seconds), "failedSandboxes": .integer(outcome.failedSandboxes),
      "calls": json(outcome.calls), "callsUntilLastPod": json(outcome.callsAtLast),
      "violations": .array(outcome.violations.map { .string($0) }),
    ])
  }

  private static func json(_ counts: [CallCount]) -> JSONValue {
    var object: JSONObject = [:]
    for action in EC2Action.allCases where counts[action.rawValue].sent > 0 {
      object[action.name] = .object([
        "accepted": .integer(counts[action.rawValue].accepted), "refused": .integer(counts[action.rawValue].refused),
      ])
    }
    return .object(object)
  }

  private static func number(_ value: Double?) -> JSONValue {
    guard let value, value.isFinite else { return .null }
    return .number("\((value * 1000).rounded() / 1000)")
  }

  // MARK: text

  package var text: String {
    var lines = ["\(scenario.name): \(scenario.nodes) nodes, \(scenario.pods) pods, seed \(scenario.seed)"]
    if let bound = scenario.bound {
      let calls = EC2Action.allCases.compactMap { action in scenario.fewestCalls[action].map { "\($0) \(action.name)" }
      }
      lines.append(
        "  bound by the buckets alone: \(Comparison.digits(bound.seconds)) s (\(bound.action.name)); "
          + "a node needs \(calls.joined(separator: ", "))")
    }
    lines.append(Comparison.row("", ["bound", "reference", "ours"]))
    for (title, share) in [("50 % of the pods, s", 0.5), ("99 %, s", 0.99), ("all, s", 1)] {
      lines.append(
        Comparison.row(
          title,
          [share == 1 ? scenario.bound?.seconds : nil, reference.time(of: share), ours.time(of: share)].map {
            $0.map(Comparison.digits) ?? ""
          }))
    }
    lines.append(
      Comparison.row(
        "last call, s",
        ["", Comparison.digits(reference.lastCallAt.seconds), Comparison.digits(ours.lastCallAt.seconds)])
    )
    lines.append(Comparison.row("failed sandboxes", ["", "\(reference.failedSandboxes)", "\(ours.failedSandboxes)"]))
    lines.append(
      Comparison.row(
        "calls until the last pod", ["", Comparison.calls(reference.totalAtLast), Comparison.calls(ours.totalAtLast)])
    )
    lines.append(Comparison.row("calls in all", ["", Comparison.calls(reference.total), Comparison.calls(ours.total)]))
    for action in EC2Action.allCases {
      let (theirs, mine) = (reference.calls[action.rawValue], ours.calls[action.rawValue])
      guard theirs.sent + mine.sent > 0 else { continue }
      lines.append(Comparison.row("  \(action.name)", ["", Comparison.calls(theirs), Comparison.calls(mine)]))
    }
    for outcome in [reference, ours] { lines += outcome.violations.map { "  WRONG, \(outcome.policy): \($0)" } }
    lines.append(
      "  ours/reference \(Comparison.ratio(timeRatio)), ours/bound \(Comparison.ratio(boundRatio)), calls "
        + "\(Comparison.ratio(callRatio)): target \(meetsTarget ? "met" : "MISSED")")
    return lines.joined(separator: "\n")
  }

  private static func calls(_ count: CallCount) -> String { "\(count.sent) (\(count.refused) refused)" }

  private static func digits(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

  private static func ratio(_ value: Double?) -> String { value.map { "\(($0 * 100).rounded() / 100)" } ?? "-" }

  private static func row(_ title: String, _ cells: [String]) -> String {
    let pad = { (text: String, width: Int) in String(repeating: " ", count: max(width - text.count, 0)) }
    return "  " + title + pad(title, 34) + cells.map { pad($0, 24) + $0 }.joined()
  }
}
