// SPDX-License-Identifier: Apache-2.0

import Testing

/// docs/troubleshooting.md lists every log message that an operator can see.
@Suite struct LogMessageDocTests {
  /// The page with the table.
  static let page = "docs/troubleshooting.md"

  /// Calls that write a line of level info or above. `.say` is the entrypoint's list of lines.
  static let calls =
    ["info(", "notice(", "warning(", "error(", "critical(", "log("].flatMap { ["logger." + $0, "log." + $0] }
    + [".say("]

  /// A message with interpolations has one part for each piece of constant text.
  struct Message: Hashable {
    let parts: [String]
    let path: String
  }

  /// The string literals of a call before its metadata.
  static func literals(_ text: Substring) -> [[String]] {
    var found: [[String]] = []
    var depth = 1
    var rest = text
    while let character = rest.first, depth > 0 {
      if rest.hasPrefix("metadata") { break }
      rest.removeFirst()
      switch character {
      case "(": depth += 1
      case ")": depth -= 1
      case "\"": found.append(literal(&rest))
      default: break
      }
    }
    return found
  }

  /// Reads a literal whose opening quotation mark has been consumed; the contents of interpolations are left out.
  private static func literal(_ rest: inout Substring) -> [String] {
    var parts = [""]
    while let character = rest.popFirst(), character != "\"" {
      guard character == "\\" else {
        parts[parts.count - 1].append(character)
        continue
      }
      guard let escaped = rest.popFirst() else { break }
      guard escaped == "(" else {
        parts[parts.count - 1].append(escaped)
        continue
      }
      var depth = 1
      while depth > 0, let inner = rest.popFirst() {
        if inner == "(" { depth += 1 }
        if inner == ")" { depth -= 1 }
        if inner == "\"" { _ = literal(&rest) }
      }
      parts.append("")
    }
    return parts
  }

  static func messages() throws -> Set<Message> {
    var found: Set<Message> = []
    for path in PackageTree.files(below: "Sources/Modes", suffix: ".swift") {
      let text = try PackageTree.text(path)
      for call in calls where !(path.contains("/SupportBundle/") || call == ".say(" && !path.contains("/Modes/Node/")) {
        var rest = text[...]
        while let range = rest.firstRange(of: call) {
          rest = rest[range.upperBound...]
          for parts in literals(rest) {
            let parts = parts.map { String($0.trimming(while: { $0 == " " })) }.filter { $0.count > 1 }
            if !parts.isEmpty { found.insert(Message(parts: parts, path: path)) }
          }
        }
      }
    }
    return found
  }

  @Test func everyMessageStandsInTheTable() throws {
    let page = try PackageTree.text(Self.page)
    let start = try #require(page.firstRange(of: "## Log messages"))
    let rest = page[start.upperBound...]
    let table = rest[..<(rest.firstRange(of: "\n## ")?.lowerBound ?? rest.endIndex)]
    let messages = try Self.messages()
    #expect(messages.count > 120, "the search finds the calls")
    for message in messages {
      for part in message.parts where !table.contains(part) {
        Issue.record("not in the table of \(Self.page): \(part) (\(message.path))")
      }
    }
  }
}

extension String {
  fileprivate func trimming(while isLeftOut: (Character) -> Bool) -> Substring {
    var text = drop(while: isLeftOut)
    while let last = text.last, isLeftOut(last) { text.removeLast() }
    return text
  }
}
