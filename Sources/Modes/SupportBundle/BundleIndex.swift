// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// What was collected, what was not, and why: `index.json` for machines, `index.txt` for people.
struct BundleIndex: Sendable {
  let version: String
  let instance: String
  let began: UTCTime
  var seconds: Double
  var records: [PartRecord] = []
  /// The options excluded parts.
  var notes: [String] = []

  /// By path.
  private var sorted: [PartRecord] { records.sorted { $0.path < $1.path } }

  func count(_ outcome: PartRecord.Outcome) -> Int { records.count { $0.outcome == outcome } }

  /// Secrets that were replaced in all parts.
  var redactions: Int { records.reduce(0) { $0 + $1.redacted.values.reduce(0, +) } }

  var json: JSONValue {
    [
      "version": .string(version), "instance": .string(instance), "began": .string(began.description),
      "seconds": .number(BundleIndex.text(seconds)), "notes": .array(notes.map { .string($0) }),
      "redactions": .integer(redactions),
      "parts": .array(
        sorted.map { record in
          let kinds = record.redacted.sorted { $0.key.rawValue < $1.key.rawValue }
          return [
            "path": .string(record.path), "origin": .string(record.origin), "outcome": .string(record.outcome.rawValue),
            "reason": .string(record.reason), "bytes": .integer(record.size),
            "seconds": .number(BundleIndex.text(record.seconds)),
            "redacted": .object(
              JSONObject(members: kinds.map { JSONObject.Member(key: $0.key.rawValue, value: .integer($0.value)) })),
          ]
        }),
    ]
  }

  var text: String {
    var text =
      "Support bundle of \(instance), made by vpc-cni \(version) at \(began), in \(BundleIndex.text(seconds)) s.\n"
    text += "\(summary)\n"
    for note in notes { text += "\(note)\n" }
    let width = (sorted.map(\.path.count).max() ?? 0) + 2
    text += "\n"
    for record in sorted {
      text += record.outcome.rawValue + String(repeating: " ", count: 11 - record.outcome.rawValue.count)
      text += record.path + String(repeating: " ", count: width - record.path.count)
      let size = "\(record.size)"
      text += String(repeating: " ", count: max(10 - size.count, 0)) + size + " bytes"
      text += "  \(BundleIndex.text(record.seconds)) s  \(record.origin)"
      text += record.reason.isEmpty ? "\n" : ": \(record.reason)\n"
    }
    return text
  }

  /// One line.
  var summary: String {
    let outcomes: [PartRecord.Outcome] = [.collected, .partial, .absent, .failed, .leftOut]
    let counts = outcomes.map { "\(count($0)) \($0.rawValue)" }.joined(separator: ", ")
    return "\(records.count) parts: \(counts); \(redactions) secrets replaced"
  }

  /// Seconds with two decimals.
  static func text(_ seconds: Double) -> String {
    let hundredths = Int((max(seconds, 0) * 100).rounded())
    let rest = hundredths % 100
    return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
  }
}
