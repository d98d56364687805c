// SPDX-License-Identifier: Apache-2.0

/// The fields of one call in EC2's query protocol: lists are flattened and counted from 1.
struct EC2Parameters: Sendable {
  private(set) var fields: [(name: String, value: String)]

  init(action: String) {
    fields = [(name: "Action", value: action), (name: "Version", value: "2016-11-15")]
  }

  mutating func set(_ name: String, _ value: String?) {
    if let value { fields.append((name: name, value: value)) }
  }

  mutating func set(_ name: String, _ value: Int?) { set(name, value.map { String($0) }) }

  mutating func set(_ name: String, _ value: Bool?) { set(name, value.map { $0 ? "true" : "false" }) }

  /// `NAME.1`, `NAME.2`…
  mutating func list(_ name: String, _ values: some Sequence<String>) {
    for (index, value) in values.enumerated() { set("\(name).\(index + 1)", value) }
  }

  /// `Filter.1.Name`, `Filter.1.Value.1`…
  mutating func filters(_ filters: [EC2Filter]) {
    for (index, filter) in filters.enumerated() {
      set("Filter.\(index + 1).Name", filter.name)
      list("Filter.\(index + 1).Value", filter.values)
    }
  }

  /// `PREFIX.1.Key`, `PREFIX.1.Value`…, in the keys' order, so that the same call is the same text.
  mutating func tags(_ prefix: String, _ tags: [String: String]) {
    for (index, tag) in tags.sorted(by: { $0.key < $1.key }).enumerated() {
      set("\(prefix).\(index + 1).Key", tag.key)
      set("\(prefix).\(index + 1).Value", tag.value)
    }
  }

  var body: [UInt8] { Array(PercentEncoding.form(fields).utf8) }
}

/// A condition of a describe call: the object's `name` has one of the values. Several filters must all hold.
package struct EC2Filter: Sendable, Hashable {
  package let name: String
  package let values: [String]

  package init(_ name: String, _ values: [String]) {
    self.name = name
    self.values = values
  }
}
