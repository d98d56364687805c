// SPDX-License-Identifier: Apache-2.0

/// An invalid variable: the agent exits at startup.
package struct SettingError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The variable's name.
  package let name: String
  /// What was set, cut to 200 characters.
  package let value: String
  /// What may be set.
  package let allowed: String

  package init(name: String, value: String, allowed: String) {
    self.name = name
    self.value = String(value.prefix(200))
    self.allowed = allowed
  }

  package var description: String { "\(name) is \"\(value)\": allowed is \(allowed)" }
}

/// An ignored value, and its replacement.
package struct SettingWarning: Sendable, Hashable, CustomStringConvertible {
  package let name: String
  package let value: String
  package let allowed: String
  /// What is used instead, in words.
  package let used: String

  package var description: String { "\(name) is \"\(value)\": allowed is \(allowed); using \(used)" }
}

/// Reads single variables of an environment; collects warnings for those where the contract falls back.
struct SettingReader {
  let environment: [String: String]
  private(set) var warnings: [SettingWarning] = []

  init(environment: [String: String]) { self.environment = environment }

  /// The value as set; nil if unset or empty.
  func text(_ setting: Setting) -> String? {
    guard let value = environment[setting.name], !value.isEmpty else { return nil }
    return value
  }

  /// The value as set, or the default.
  func textOrDefault(_ setting: Setting) -> String { text(setting) ?? setting.fallback }

  mutating func warn(_ setting: Setting, _ value: String, used: String) {
    warnings.append(
      SettingWarning(name: setting.name, value: String(value.prefix(200)), allowed: setting.allowed, used: used))
  }

  func refuse(_ setting: Setting, _ value: String) -> SettingError {
    SettingError(name: setting.name, value: value, allowed: setting.allowed)
  }

  /// Names and paths go into HTTP headers, tags, log lines and files: control characters are not allowed.
  func refuseControlCharacters(in settings: [Setting] = Setting.all) throws(SettingError) {
    for setting in settings where setting.shape == .text || setting.shape == .path {
      guard let value = text(setting), value.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) else { continue }
      let shown = String(value.map { $0.isASCII && ($0.asciiValue ?? 0) < 0x20 ? "?" : $0 })
      throw SettingError(name: setting.name, value: shown, allowed: setting.allowed + ", without control characters")
    }
  }

  /// A boolean in one of the spellings of Go's strconv.ParseBool; anything else falls back with a warning.
  ///
  /// - Parameter fallback: if the default depends on something else.
  mutating func bool(_ setting: Setting, default fallback: Bool? = nil) -> Bool {
    let fallback = fallback ?? setting.flag
    guard let value = text(setting) else { return fallback }
    switch value {
    case "1", "t", "T", "TRUE", "true", "True": return true
    case "0", "f", "F", "FALSE", "false", "False": return false
    default:
      warn(setting, value, used: "\(fallback)")
      return fallback
    }
  }

  /// A decimal number of the setting's range; anything else falls back with a warning.
  mutating func int(_ setting: Setting) -> Int {
    guard let value = text(setting) else { return setting.number }
    if let number = SettingReader.number(value), setting.range.contains(number) { return number }
    warn(setting, value, used: "\(setting.number)")
    return setting.number
  }

  /// A decimal number of the setting's range; anything else is an error.
  ///
  /// - Parameters:
  ///   - range: if it depends on something else.
  ///   - fallback: likewise the default.
  func strictInt(
    _ setting: Setting, in range: ClosedRange<Int>? = nil, default fallback: Int? = nil
  ) throws(SettingError) -> Int {
    guard let value = text(setting) else { return fallback ?? setting.number }
    guard let number = SettingReader.number(value), (range ?? setting.range).contains(number) else {
      throw refuse(setting, value)
    }
    return number
  }

  /// One of the setting's words, in lower case or as it is; unknown ones fall back with a warning, as in
  /// amazon-vpc-cni-k8s.
  mutating func word<Word: SettingWord>(_ setting: Setting) -> Word {
    guard let value = text(setting) else { return fallback(setting) }
    if let word = Word(rawValue: value) ?? Word(rawValue: value.lowercased()) { return word }
    warn(setting, value, used: setting.fallback)
    return fallback(setting)
  }

  /// One of the setting's words; anything else is an error.
  func strictWord<Word: SettingWord>(_ setting: Setting) throws(SettingError) -> Word {
    guard let value = text(setting) else { return fallback(setting) }
    guard let word = Word(rawValue: value) else { throw refuse(setting, value) }
    return word
  }

  /// The default is one of the words: the declaration takes it as a `Word`.
  private func fallback<Word: SettingWord>(_ setting: Setting) -> Word {
    Word(rawValue: setting.fallback) ?? Word.allCases[Word.allCases.startIndex]
  }

  /// A whole number as Go's strconv.Atoi reads it: an optional sign and decimal digits.
  static func number(_ text: String) -> Int? { Int(text) }

  /// A C-style number: decimal, 0x hexadecimal or 0 octal.
  static func cNumber(_ text: String) -> UInt64? {
    let lower = text.lowercased()
    if lower.hasPrefix("0x") { return UInt64(lower.dropFirst(2), radix: 16) }
    if lower.hasPrefix("0o") { return UInt64(lower.dropFirst(2), radix: 8) }
    if lower.hasPrefix("0b") { return UInt64(lower.dropFirst(2), radix: 2) }
    if lower.count > 1, lower.hasPrefix("0") { return UInt64(lower.dropFirst(), radix: 8) }
    return UInt64(lower)
  }

  /// Each entry is one or two rules that packets traverse. More warnings than this add no information.
  private static let listLimit = 200

  /// A comma-separated list of IPv4 CIDRs, each reduced to its network; invalid entries and those after the 200th are
  /// skipped with a warning.
  mutating func cidrs(_ setting: Setting) -> [IPPrefix] {
    guard let value = text(setting) else { return [] }
    var list: [IPPrefix] = []
    for item in value.split(separator: ",") {
      let trimmed = SettingReader.trim(item)
      guard !trimmed.isEmpty else { continue }
      if let prefix = IPPrefix(normalizing: trimmed), prefix.family == .ipv4 {
        guard !list.contains(prefix) else { continue }
        guard list.count < SettingReader.listLimit else {
          warn(setting, trimmed, used: "the \(SettingReader.listLimit) before it")
          break
        }
        list.append(prefix)
      } else if warnings.count < SettingReader.listLimit {
        warn(setting, trimmed, used: "the rest of the list")
      }
    }
    return list
  }

  static func trim(_ text: Substring) -> String {
    let isSpace = { (character: Character) in character == " " || character == "\t" || character == "\n" }
    let head = text.drop(while: isSpace)
    guard let last = head.lastIndex(where: { !isSpace($0) }) else { return "" }
    return String(head[...last])
  }
}
