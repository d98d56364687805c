// SPDX-License-Identifier: Apache-2.0

internal import CYaml

/// A YAML text as libyaml events.
final class YAMLEvents {
  /// One event, in Swift's terms.
  struct Event {
    enum Kind: Hashable {
      case streamStart, streamEnd, documentStart, documentEnd
      case sequenceStart, sequenceEnd, mappingStart, mappingEnd, alias
      /// - Parameter isPlain: it has no quotes and is not a block.
      case scalar(String, isPlain: Bool)
    }

    let kind: Kind
    /// From 1.
    let line: Int
    /// The name behind `&` or `*`.
    let anchor: String?
    let hasTag: Bool
  }

  // Both must live as long as this object: libyaml keeps pointers into them.
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  private let text: UnsafeMutableBufferPointer<UInt8>

  init(_ bytes: [UInt8]) throws(YAMLReader.Failure) {
    parser = .allocate(capacity: 1)
    text = .allocate(capacity: max(bytes.count, 1))
    _ = text.initialize(from: bytes)
    // If this throws, `deinit` still runs: an uncreated parser is empty.
    guard yaml_parser_initialize(parser) == 1 else {
      throw YAMLReader.Failure(line: 1, reason: "out of memory")
    }
    // SAFETY: `text` has at least so many bytes, and is freed after the parser.
    yaml_parser_set_input_string(parser, text.baseAddress, bytes.count)
  }

  deinit {
    yaml_parser_delete(parser)
    parser.deallocate()
    text.deallocate()
  }

  /// - Throws: what libyaml says is wrong, and where.
  func next() throws(YAMLReader.Failure) -> Event {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) == 1 else { throw failure() }
    defer { yaml_event_delete(&event) }
    let line = Int(event.start_mark.line) + 1
    switch event.type {
    case YAML_STREAM_START_EVENT: return Event(.streamStart, line)
    case YAML_DOCUMENT_START_EVENT: return Event(.documentStart, line)
    case YAML_DOCUMENT_END_EVENT: return Event(.documentEnd, line)
    case YAML_SEQUENCE_START_EVENT:
      return Event(.sequenceStart, line, event.data.sequence_start.anchor, event.data.sequence_start.tag)
    case YAML_SEQUENCE_END_EVENT: return Event(.sequenceEnd, line)
    case YAML_MAPPING_START_EVENT:
      return Event(.mappingStart, line, event.data.mapping_start.anchor, event.data.mapping_start.tag)
    case YAML_MAPPING_END_EVENT: return Event(.mappingEnd, line)
    case YAML_ALIAS_EVENT: return Event(.alias, line, event.data.alias.anchor)
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      // SAFETY: libyaml says how many bytes the value has; they are copied before the event is deleted.
      let value = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
      let isPlain = scalar.style == YAML_PLAIN_SCALAR_STYLE
      return Event(.scalar(value, isPlain: isPlain), line, scalar.anchor, scalar.tag)
    default: return Event(.streamEnd, line)  // also what libyaml gives behind the end
    }
  }

  private func failure() -> YAMLReader.Failure {
    let reason = parser.pointee.problem.map { String(cString: $0) } ?? "out of memory"
    // A fault of the encoding has an offset and no mark.
    let line = parser.pointee.error == YAML_READER_ERROR ? parser.pointee.mark.line : parser.pointee.problem_mark.line
    return YAMLReader.Failure(line: Int(line) + 1, reason: reason)
  }
}

extension YAMLEvents.Event {
  fileprivate init(
    _ kind: Kind, _ line: Int, _ anchor: UnsafeMutablePointer<yaml_char_t>? = nil,
    _ tag: UnsafeMutablePointer<yaml_char_t>? = nil
  ) {
    self.kind = kind
    self.line = line
    self.anchor = anchor.map { String(cString: $0) }
    hasTag = tag != nil
  }
}
