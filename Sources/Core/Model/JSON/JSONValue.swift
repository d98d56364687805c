// SPDX-License-Identifier: Apache-2.0

/// A JSON document as a tree that preserves member order and number texts.
///
/// Used where unknown members must be preserved (a CNI `prevResult`) and where parsing must start fast (every pod start
/// parses one). Made by `JSONParser`, which bounds size and depth.
package indirect enum JSONValue: Sendable, Hashable {
  case null
  case bool(Bool)
  /// The number's own text, so that nothing is lost to rounding.
  case number(String)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  package static func integer(_ value: some BinaryInteger) -> JSONValue { .number(String(value)) }

  package var string: String? { if case .string(let text) = self { text } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  package var array: [JSONValue]? { if case .array(let items) = self { items } else { nil } }
  package var object: JSONObject? { if case .object(let members) = self { members } else { nil } }

  /// A number written without fraction or exponent that fits.
  package var int: Int? { if case .number(let text) = self { Int(text) } else { nil } }

  /// The member of an object; nil if this is not an object or has no such member.
  package subscript(key: String) -> JSONValue? { object?[key] }

  /// What a person would call it: `a string`, `an object`…
  package var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// The members of a JSON object in the order in which they were written.
package struct JSONObject: Sendable, Hashable, ExpressibleByDictionaryLiteral {
  package private(set) var members: [Member]

  package struct Member: Sendable, Hashable {
    package let key: String
    package var value: JSONValue

    package init(key: String, value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    members = elements.map { Member(key: $0.0, value: $0.1) }
  }

  package init(members: [Member] = []) { self.members = members }

  /// Reads the last member of that name, as most JSON readers do. Setting nil removes all of that name.
  package subscript(key: String) -> JSONValue? {
    get { members.last { $0.key == key }?.value }
    set {
      guard let newValue else { return members.removeAll { $0.key == key } }
      if let index = members.lastIndex(where: { $0.key == key }) {
        members[index].value = newValue
      } else {
        members.append(Member(key: key, value: newValue))
      }
    }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral {
  package init(stringLiteral value: String) { self = .string(value) }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(integerLiteral value: Int) { self = .integer(value) }
}

extension JSONValue: ExpressibleByDictionaryLiteral {
  /// An object with its members in the order of the literal.
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(JSONObject(members: elements.map { JSONObject.Member(key: $0.0, value: $0.1) }))
  }
}
