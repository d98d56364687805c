// SPDX-License-Identifier: Apache-2.0

/// A value in the document of `/v1/status`.
protocol StatusField {
  var statusJSON: JSONValue { get }
  /// Nil for JSON of another kind.
  init?(statusJSON json: JSONValue)
}

/// An object of the document.
protocol StatusObject: StatusField {
  init()
  /// Calls `field` once for each member, in the order of the document.
  mutating func fields(_ field: inout StatusFields)
}

/// Reads or writes the members of one object: the same list of calls does both.
struct StatusFields {
  /// Nil to write.
  private let source: JSONObject?
  private(set) var written: [JSONObject.Member] = []

  init(reading source: JSONObject? = nil) { self.source = source }

  /// A member that is missing or of another kind leaves the value as it is.
  mutating func callAsFunction<Value: StatusField>(_ key: String, _ value: inout Value) {
    guard let source else { return written.append(JSONObject.Member(key: key, value: value.statusJSON)) }
    if let read = source[key].flatMap(Value.init(statusJSON:)) { value = read }
  }
}

extension StatusObject {
  var statusJSON: JSONValue {
    var (copy, fields) = (self, StatusFields())
    copy.fields(&fields)
    return .object(JSONObject(members: fields.written))
  }

  init?(statusJSON json: JSONValue) {
    guard let object = json.object else { return nil }
    self.init()
    var fields = StatusFields(reading: object)
    self.fields(&fields)
  }
}

extension AgentStatus {
  package var json: JSONValue { statusJSON }

  /// Nil for a document of another kind or of another schema. Unknown members are ignored; missing ones have defaults.
  package init?(json: JSONValue) {
    guard json["schema"]?.int == AgentStatus.schema else { return nil }
    self.init(statusJSON: json)
  }
}

// The document comes from an untrusted listener and goes to a terminal: texts are escaped, and numbers limited so that
// arithmetic cannot overflow.

extension String: StatusField {
  var statusJSON: JSONValue { .string(self) }

  init?(statusJSON json: JSONValue) {
    guard let text = json.string else { return nil }
    self = text.visible
  }
}

extension Int: StatusField {
  var statusJSON: JSONValue { .integer(self) }

  init?(statusJSON json: JSONValue) {
    guard let number = json.int else { return nil }
    self = Swift.min(Swift.max(number, -AgentStatus.largestNumber), AgentStatus.largestNumber)
  }
}

extension Bool: StatusField {
  var statusJSON: JSONValue { .bool(self) }

  init?(statusJSON json: JSONValue) {
    guard let value = json.bool else { return nil }
    self = value
  }
}

extension Optional: StatusField where Wrapped: StatusField {
  var statusJSON: JSONValue { self?.statusJSON ?? .null }

  init(statusJSON json: JSONValue) { self = Wrapped(statusJSON: json) }
}

/// Items of another kind are left out.
extension Array: StatusField where Element: StatusField {
  var statusJSON: JSONValue { .array(map(\.statusJSON)) }

  init?(statusJSON json: JSONValue) {
    guard let items = json.array else { return nil }
    self = items.compactMap(Element.init(statusJSON:))
  }
}
