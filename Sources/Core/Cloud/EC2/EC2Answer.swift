// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// One element of an EC2 response, read field by field; errors name the missing or invalid field.
struct EC2Answer {
  let action: String
  let element: XMLElement

  init(_ element: XMLElement, action: String) {
    self.action = action
    self.element = element
  }

  /// The nested element; nil if there is none.
  func child(_ name: String) -> EC2Answer? {
    element[name].map { EC2Answer($0, action: action) }
  }

  func items(_ name: String) -> [EC2Answer] {
    element.items(name).map { EC2Answer($0, action: action) }
  }

  func text(_ name: String) -> String? { element.text(name) }

  func flag(_ name: String) -> Bool { element.text(name) == "true" }

  func required(_ name: String) throws(EC2Error) -> String {
    guard let text = element.text(name) else { throw failure("\(element.name) is without \(name)") }
    return text
  }

  /// A required field, parsed by `parse`.
  func value<Value>(_ name: String, _ parse: (String) -> Value?) throws(EC2Error) -> Value {
    let text = try required(name)
    guard let value = parse(text) else { throw unexpected(name, text) }
    return value
  }

  /// An optional field, parsed by `parse`.
  func optional<Value>(_ name: String, _ parse: (String) -> Value?) throws(EC2Error) -> Value? {
    guard let text = element.text(name) else { return nil }
    guard let value = parse(text) else { throw unexpected(name, text) }
    return value
  }

  /// The field `name` of every item of a list.
  func values<Value>(_ list: String, _ name: String, _ parse: (String) -> Value?) throws(EC2Error) -> [Value] {
    var values: [Value] = []
    for item in items(list) { values.append(try item.value(name, parse)) }
    return values
  }

  /// Every item of a list of texts.
  func values<Value>(_ list: String, _ parse: (String) -> Value?) throws(EC2Error) -> [Value] {
    var values: [Value] = []
    for item in element.items(list) {
      guard let value = parse(item.text) else { throw unexpected(list, item.text) }
      values.append(value)
    }
    return values
  }

  func tags() -> [String: String] {
    var tags: [String: String] = [:]
    for tag in items("tagSet") {
      if let key = tag.text("key") { tags[key] = tag.text("value") ?? "" }
    }
    return tags
  }

  func failure(_ detail: String) -> EC2Error {
    EC2Error(action: action, code: .malformedAnswer, message: detail, status: 200)
  }

  private func unexpected(_ name: String, _ text: String) -> EC2Error {
    failure("\(element.name) has \(name) \"\(text.prefix(64))\"")
  }
}
