// SPDX-License-Identifier: Apache-2.0

/// The shared configuration format of the AWS tools: sections of `name = value` lines.
///
/// Comments begin with `#` or `;`, at the start of a line or after a value and white space. A line that begins with
/// white space continues the property above it (nested properties); it is skipped, since none of those is used here.
/// Source: "Shared config and credentials files", AWS SDKs and Tools Reference Guide.
package struct ProfileFile: Sendable, Equatable {
  /// Which spelling a file has: `[profile NAME]` (config) or `[NAME]` (credentials). `[default]` is the same in both.
  package enum Kind: Sendable {
    case config
    case credentials
  }

  /// Profile to property to value; property names in lower case.
  package private(set) var profiles: [String: [String: String]] = [:]

  package init() {}

  /// Reads a file's text. Lines that are neither section, property nor comment are skipped, as the AWS tools do; so is
  /// text before the first section. For a duplicate property the last value counts.
  package init(_ bytes: [UInt8], kind: Kind) {
    var section: String?
    for raw in bytes.split(whereSeparator: { $0 == 0x0a || $0 == 0x0d }) {
      let line = String(decoding: raw, as: UTF8.self)
      guard let first = line.first, !first.isWhitespace, first != "#", first != ";" else { continue }
      if first == "[" {
        section = ProfileFile.section(line, kind)
        if let section, profiles[section] == nil { profiles[section] = [:] }
      } else if let section, let equals = line.firstIndex(of: "=") {
        let name = ProfileFile.trim(line[..<equals]).lowercased()
        let value = ProfileFile.value(line[line.index(after: equals)...])
        if !name.isEmpty { profiles[section]?[name] = value }
      }
    }
  }

  /// This file's properties over `other`'s, profile by profile.
  package func merged(over other: ProfileFile) -> ProfileFile {
    var result = other
    for (profile, properties) in profiles {
      result.profiles[profile, default: [:]].merge(properties) { $1 }
    }
    return result
  }

  /// The profile's name; nil for a section of another sort (`sso-session`, `services`) and for a broken line.
  private static func section(_ line: String, _ kind: Kind) -> String? {
    guard let end = line.firstIndex(of: "]") else { return nil }
    let name = trim(line[line.index(after: line.startIndex)..<end])
    guard kind == .config, name != "default" else { return name.isEmpty ? nil : String(name) }
    let words = name.split(whereSeparator: \.isWhitespace)
    return words.count == 2 && words[0] == "profile" ? String(words[1]) : nil
  }

  private static func value(_ text: Substring) -> String {
    var end = text.endIndex
    var previous: Character = " "
    for index in text.indices {
      if previous.isWhitespace, text[index] == "#" || text[index] == ";" {
        end = index
        break
      }
      previous = text[index]
    }
    return String(trim(text[..<end]))
  }

  private static func trim(_ text: Substring) -> Substring {
    var text = text.drop(while: \.isWhitespace)
    while text.last?.isWhitespace == true { text.removeLast() }
    return text
  }
}
