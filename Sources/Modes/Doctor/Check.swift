// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// One question about the node, answered from facts alone: a pure function, tried by tables.
struct Check: Sendable {
  /// Stable, for machines and documents: words joined by hyphens.
  let id: String
  /// What it looks at, in a few words.
  let looksAt: String
  /// Why a fault here hurts.
  let why: String
  let judge: @Sendable (NodeFacts) -> Finding
}

/// How a check came out.
enum Verdict: String, Sendable, CaseIterable {
  case ok
  case warning
  case broken
  /// What it would have looked at could not be seen.
  case unknown = "could not look"
}

/// What a check found.
struct Finding: Sendable, Hashable {
  let verdict: Verdict
  /// With the objects' names and values.
  let found: String
  /// The command or change that mends it; empty for `ok`.
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

/// Something that was looked for.
enum Fact<Value: Sendable>: Sendable {
  case known(Value)
  /// Why it is not known.
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
