// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// One check of the node: a pure function of the facts, tested by tables.
struct Check: Sendable {
  /// Stable, for machines and documents: words joined by hyphens.
  let id: String
  /// What it checks, in a few words.
  let looksAt: String
  /// The impact of a fault.
  let why: String
  let judge: @Sendable (NodeFacts) -> Finding
}

/// The result of a check.
enum Verdict: String, Sendable, CaseIterable {
  case ok
  case warning
  case broken
  /// The facts for the check are not available.
  case unknown = "could not look"
}

/// What a check found.
struct Finding: Sendable, Hashable {
  let verdict: Verdict
  /// With the objects' names and values.
  let found: String
  /// The command or change that fixes it; empty for `ok`.
  let remedy: String

  static func ok(_ found: String) -> Finding { Finding(verdict: .ok, found: found, remedy: "") }

  static func warning(_ found: String, remedy: String) -> Finding {
    Finding(verdict: .warning, found: found, remedy: remedy)
  }

  static func broken(_ found: String, remedy: String) -> Finding {
    Finding(verdict: .broken, found: found, remedy: remedy)
  }

  static func unknown(_ why: String) -> Finding { Finding(verdict: .unknown, found: why, remedy: "") }
}

/// A check with its answer.
struct Answer: Sendable {
  let check: Check
  let finding: Finding
}

/// A gathered fact.
enum Fact<Value: Sendable>: Sendable {
  case known(Value)
  /// Why it is unknown.
  case unknown(String)

  var value: Value? { if case .known(let value) = self { value } else { nil } }

  /// The answer of a check that needs this fact.
  func judged(_ judge: (Value) -> Finding) -> Finding {
    switch self {
    case .known(let value): judge(value)
    case .unknown(let why): .unknown(why)
    }
  }
}

extension Fact: Equatable where Value: Equatable {}

/// Names and numbers for a finding: the first few, and how many more.
func listed<Item>(_ items: [Item], limit: Int = 5) -> String {
  let shown = items.prefix(limit).map { "\($0)" }.joined(separator: ", ")
  return items.count > limit ? "\(shown) and \(items.count - limit) more" : shown
}

extension Check {
  /// In display order: the most severe first. docs/troubleshooting.md has a row for each.
  static let all: [Check] = [
    agentServes, settings, apiServer, metadata, permissions, growth, throttling, subnetAddresses,
    subnetFragmentation, podLimit, leakedENIs, conflist, versionSkew, checkpoint, probes, nodeNetwork, podReturn,
    forwarding, forwardPolicy,
    reversePath, macPolicy, cloudSetup, networkd, iptablesMode, xtablesLock,
  ]
}
