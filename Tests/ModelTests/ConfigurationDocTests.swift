// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// docs/configuration.md describes every variable as the code defines it, and links in documents lead to files.
@Suite struct ConfigurationDocTests {
  /// What both the table and the code say about one variable.
  struct Line: Hashable, CustomStringConvertible {
    let name: String
    let type: String
    let unit: String
    let fallback: String
    var description: String { "\(name) | \(type) | \(unit) | \(fallback)" }
  }

  /// A part of the document and the variables that it must list.
  struct Part: Sendable, CustomTestStringConvertible {
    let heading: String
    let settings: [Setting]
    var testDescription: String { heading }
  }

  static let parts = [
    Part(heading: "## The agent's variables", settings: Setting.all),
    Part(heading: "## The node's variables", settings: Setting.node),
    Part(heading: "## The metrics helper's variables", settings: Setting.metricsHelper),
  ]

  /// The rows of the first table below the heading whose first cell is `variable` and whose second is `type`.
  static func documented(_ part: Part) throws -> [[String]] {
    let lines = try PackageTree.text("docs/configuration.md").split(separator: "\n", omittingEmptySubsequences: false)
    let rows = lines.drop { $0 != part.heading }.drop { !$0.hasPrefix("| variable | type |") }.dropFirst(2)
      .prefix { $0.hasPrefix("|") }
    return rows.map { row in
      row.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast().map(Self.plain)
    }
  }

  /// A cell without the spaces around it and without the backticks of code.
  static func plain(_ cell: Substring) -> String {
    var cell = cell.drop { $0 == " " }
    while cell.last == " " { cell.removeLast() }
    return cell.count > 1 && cell.first == "`" && cell.last == "`" ? String(cell.dropFirst().dropLast()) : String(cell)
  }

  @Test(arguments: parts)
  func everyVariableStandsThereAsInTheCode(part: Part) throws {
    let documented = try Self.documented(part)
    let found = try documented.map { row in
      try #require(row.count == 7, "seven cells: \(row)")
      return Line(name: row[0], type: row[1], unit: row[2], fallback: row[3])
    }
    let wanted = part.settings.map {
      Line(name: $0.name, type: $0.shape.rawValue, unit: $0.unit, fallback: $0.fallback)
    }
    for line in wanted where !found.contains(line) { Issue.record("not in the document: \(line)") }
    for line in found where !wanted.contains(line) { Issue.record("not in the code: \(line)") }
    #expect(found == wanted, "the order is the code's, nothing stands twice")
  }

  @Test(arguments: parts)
  func everyVariableHasAnEffectARuleAndSaysWhetherItActs(part: Part) throws {
    for row in try Self.documented(part) {
      #expect(row[4...].allSatisfy { !$0.isEmpty }, "\(row[0])")
      #expect(["yes", "partly", "no"].contains { row[6].hasPrefix($0) }, "\(row[0])")
    }
  }

  /// Relative links of the documents; the section after `#` is not checked.
  @Test func everyLinkLeadsToAFile() throws {
    let documents =
      ["README.md", "CHANGELOG.md", "Tests/Simulator/README.md", "Tests/Benchmarks/README.md"]
      + PackageTree.files(below: "docs", suffix: ".md")
    for document in documents {
      let folder = document.split(separator: "/").dropLast()
      let text = try PackageTree.text(document)
      for target in Self.links(text) where !target.contains("://") && !target.hasPrefix("#") {
        let path = Self.resolve(target.prefix { $0 != "#" }, from: Array(folder))
        #expect(PackageTree.exists(path), "\(document) links to \(target)")
      }
    }
  }

  /// The text between `](` and the next `)`.
  static func links(_ text: String) -> [Substring] {
    var found: [Substring] = []
    var rest = text[...]
    while let start = rest.firstIndex(of: "]") {
      rest = rest[rest.index(after: start)...]
      guard rest.first == "(", let end = rest.firstIndex(of: ")") else { continue }
      found.append(rest[rest.index(after: rest.startIndex)..<end])
    }
    return found
  }

  static func resolve(_ target: Substring, from folder: [Substring]) -> String {
    var parts = folder
    for part in target.split(separator: "/") {
      if part == ".." { _ = parts.popLast() } else if part != "." { parts.append(part) }
    }
    return parts.joined(separator: "/")
  }

  @Test func readsLinks() {
    #expect(Self.links("[a](b/c.md) and [d] and [e](https://f)") == ["b/c.md", "https://f"])
    #expect(Self.resolve("../Tests/x.md", from: ["docs"]) == "Tests/x.md")
  }
}

extension PackageTree {
  /// Whether a file or folder of the tree exists.
  fileprivate static func exists(_ path: String) -> Bool {
    if (try? text(path)) != nil { return true }
    return !files(below: path, suffix: "").isEmpty
  }
}
