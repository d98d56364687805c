// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Testing
import VPCObserve

@testable import AgentMode

/// docs/metrics.md describes every series as the code defines it, and no others.
@Suite struct MetricsDocTests {
  struct Line: Hashable, CustomStringConvertible {
    let name: String
    let type: String
    let labels: [String]
    var description: String { "\(name) | \(type) | \(labels.joined(separator: ", "))" }
  }

  /// The rows of the table whose first cell is `series`.
  private func documented() throws -> [(line: Line, meaning: String)] {
    let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let text = try String(contentsOfFile: "\(root)/docs/metrics.md", encoding: .utf8)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let rows = lines.drop { !$0.hasPrefix("| series | type |") }.dropFirst(2).prefix { $0.hasPrefix("|") }
    return try rows.map { row in
      let cells = row.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast()
        .map { $0.filter { $0 != "`" } }.map { $0.split(separator: " ").joined(separator: " ") }
      try #require(cells.count == 4, "four cells: \(row)")
      let labels = cells[2].split(separator: ",").map { $0.filter { $0 != " " } }
      return (Line(name: cells[0], type: cells[1], labels: labels), cells[3])
    }
  }

  @Test func everySeriesStandsThereAsInTheCode() throws {
    let found = try documented()
    let wanted = AgentMetrics().registry.descriptions.map { Line(name: $0.name, type: $0.type, labels: $0.labels) }
    for line in wanted where !found.contains(where: { $0.line == line }) { Issue.record("not documented: \(line)") }
    for (line, _) in found where !wanted.contains(line) { Issue.record("not in the code: \(line)") }
    #expect(found.map(\.line) == wanted, "in the order of the names, nothing twice")
    #expect(found.allSatisfy { !$0.meaning.isEmpty })
  }

  /// Every name in an expression of the document is a series, or one that follows from the series' type. The series
  /// that it lists as not served do not exist.
  @Test func alertsNameWhatThereIs() throws {
    let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    let text = try String(contentsOfFile: "\(root)/docs/metrics.md", encoding: .utf8)
    let known = Set(AgentMetrics().registry.descriptions.map(\.name))
    let absence = try #require(text.firstRange(of: "### What is not served"))
    let next = try #require(text[absence.upperBound...].firstRange(of: "\n## "))
    let absent = names(in: text[absence.lowerBound..<next.lowerBound])
    #expect(absent.count >= 3 && known.isDisjoint(with: absent))
    let named = names(in: text[..<absence.lowerBound]) + names(in: text[next.lowerBound...])
    #expect(named.count > known.count)
    for name in named {
      let base = name.hasSuffix("_bucket") ? String(name.dropLast("_bucket".count)) : name
      #expect(known.contains(base), "\(name)")
    }
  }

  private func names(in text: Substring) -> [String] {
    let words = text.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init)
    return words.filter {
      $0.hasPrefix("awscni_") || $0.hasPrefix("promhttp_") || $0.hasPrefix("process_") && $0 != "process_"
    }
  }
}
