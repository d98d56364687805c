// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The answers as text, and as JSON.
struct DoctorText {
  let answers: [Answer]

  /// 0: nothing found, 1: warnings, 2: something is broken. An unavailable check is no finding.
  var status: Int32 {
    if answers.contains(where: { $0.finding.verdict == .broken }) { return 2 }
    return answers.contains { $0.finding.verdict == .warning } ? 1 : 0
  }

  /// - Parameters:
  ///   - isColoured: for a terminal.
  ///   - isWhole: also show details of checks without findings.
  func text(isColoured: Bool, isWhole: Bool) -> String {
    let width = (answers.map(\.check.id.count).max() ?? 0) + 2
    var text = ""
    for answer in answers {
      let (check, finding) = (answer.check, answer.finding)
      let word = finding.verdict.rawValue
      let shown = isColoured ? "\(DoctorText.colour(finding.verdict))\(word)\u{1b}[0m" : word
      text += shown + String(repeating: " ", count: max(16 - word.count, 1))
      text += check.id + String(repeating: " ", count: width - check.id.count) + finding.found.visible + "\n"
      guard finding.verdict == .broken || finding.verdict == .warning || isWhole else { continue }
      let margin = String(repeating: " ", count: 16)
      text += "\(margin)checks     \(check.looksAt)\n\(margin)impact     \(check.why)\n"
      if !finding.remedy.isEmpty { text += "\(margin)remedy     \(finding.remedy.visible)\n" }
    }
    let counts = Verdict.allCases.map { verdict in
      "\(answers.count { $0.finding.verdict == verdict }) \(verdict.rawValue)"
    }
    return text + "\n\(counts.joined(separator: ", "))\n"
  }

  var json: JSONValue {
    [
      "status": .integer(Int(status)),
      "checks": .array(
        answers.map { answer in
          [
            "id": .string(answer.check.id), "verdict": .string(answer.finding.verdict.rawValue),
            "found": .string(answer.finding.found), "looksAt": .string(answer.check.looksAt),
            "why": .string(answer.check.why), "remedy": .string(answer.finding.remedy),
          ]
        }),
    ]
  }

  private static func colour(_ verdict: Verdict) -> String {
    switch verdict {
    case .ok: "\u{1b}[32m"
    case .warning: "\u{1b}[33m"
    case .broken: "\u{1b}[31m"
    case .unknown: "\u{1b}[36m"
    }
  }
}
