// SPDX-License-Identifier: Apache-2.0
//
// YAML of a kubeconfig or a kubelet configuration: one document, from libyaml's events (YAMLEvents) into the JSON tree.
// Tags, merge keys (`<<`) and duplicate names are refused with their line. An alias counts like the values of its
// anchor: a few lines cannot grow into millions of values.

package import VPCModel

/// Reads a YAML text.
package struct YAMLReader {
  /// Why a text is not accepted.
  package struct Failure: Error, Hashable, CustomStringConvertible {
    /// From 1.
    package let line: Int
    package let reason: String
    package var description: String { "line \(line): \(reason)" }
  }

  /// Bytes of a text.
  static let sizeLimit = 1 << 20
  /// Collections within collections.
  static let depthLimit = 32
  /// Values of a document, including those of aliases.
  static let valueLimit = 10_000

  /// A value, and how many values it is made of.
  private struct Node {
    let value: JSONValue
    let size: Int
  }

  private var events: YAMLEvents
  private var anchors: [String: Node] = [:]
  private var values = 0

  /// - Parameter bytes: UTF-8, or UTF-16 with its mark.
  package static func parse(_ bytes: [UInt8]) throws(Failure) -> JSONValue {
    guard bytes.count <= sizeLimit else { throw Failure(line: 1, reason: "longer than \(sizeLimit >> 20) MiB") }
    var reader = YAMLReader(events: try YAMLEvents(bytes))
    return try reader.document()
  }

  private init(events: YAMLEvents) { self.events = events }

  private mutating func document() throws(Failure) -> JSONValue {
    while true {
      let event = try events.next()
      switch event.kind {
      case .streamStart: continue
      case .documentStart: break
      default: throw Failure(line: event.line, reason: "the text is empty")
      }
      break
    }
    let root = try node(try events.next(), depth: 0)
    while true {
      let event = try events.next()
      switch event.kind {
      case .documentEnd: continue
      case .streamEnd: return root.value
      default: throw Failure(line: event.line, reason: "a second document")
      }
    }
  }

  private mutating func node(_ event: YAMLEvents.Event, depth: Int) throws(Failure) -> Node {
    guard depth <= YAMLReader.depthLimit else { throw Failure(line: event.line, reason: "nested too deep") }
    let node: Node
    switch event.kind {
    case .alias:
      guard let anchored = event.anchor.flatMap({ anchors[$0] }) else {
        throw Failure(line: event.line, reason: "an alias of nothing before it")
      }
      try count(anchored.size, event)
      return anchored
    case .scalar(let text, let isPlain):
      try count(1, event)
      node = Node(value: isPlain ? YAMLReader.plain(text) : .string(text), size: 1)
    case .sequenceStart: node = try list(event, depth)
    case .mappingStart: node = try mapping(event, depth)
    default: throw Failure(line: event.line, reason: "no value where one is expected")
    }
    guard !event.hasTag else { throw Failure(line: event.line, reason: "a tag") }
    if let anchor = event.anchor { anchors[anchor] = node }
    return node
  }

  private mutating func list(_ start: YAMLEvents.Event, _ depth: Int) throws(Failure) -> Node {
    try count(1, start)
    var (items, size): ([JSONValue], Int) = ([], 1)
    while true {
      let event = try events.next()
      if event.kind == .sequenceEnd { return Node(value: .array(items), size: size) }
      let item = try node(event, depth: depth + 1)
      items.append(item.value)
      size += item.size
    }
  }

  private mutating func mapping(_ start: YAMLEvents.Event, _ depth: Int) throws(Failure) -> Node {
    try count(1, start)
    var (members, size): ([JSONObject.Member], Int) = ([], 1)
    var names: Set<String> = []
    while true {
      let event = try events.next()
      if event.kind == .mappingEnd { return Node(value: .object(JSONObject(members: members)), size: size) }
      guard case .scalar(let name, let isPlain) = event.kind else {
        throw Failure(line: event.line, reason: "a name that is not a string")
      }
      guard name != "<<" || !isPlain else { throw Failure(line: event.line, reason: "a merge key (<<)") }
      guard names.insert(name).inserted else {
        throw Failure(line: event.line, reason: "\"\(name.prefix(64))\" appears twice")
      }
      let member = try node(try events.next(), depth: depth + 1)
      members.append(JSONObject.Member(key: name, value: member.value))
      size += member.size
    }
  }

  private mutating func count(_ more: Int, _ event: YAMLEvents.Event) throws(Failure) {
    values += more
    guard values <= YAMLReader.valueLimit else {
      throw Failure(line: event.line, reason: "more than \(YAMLReader.valueLimit) values")
    }
  }

  /// The value of a plain scalar, by YAML's core schema; `yes` and `on` are strings.
  private static func plain(_ text: String) -> JSONValue {
    switch text {
    case "", "~", "null", "Null", "NULL": .null
    case "true", "True", "TRUE": .bool(true)
    case "false", "False", "FALSE": .bool(false)
    default: Int(text) == nil || text.hasPrefix("+") ? .string(text) : .number(text)
    }
  }
}
