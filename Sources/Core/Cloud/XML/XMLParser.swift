// SPDX-License-Identifier: Apache-2.0

internal import CExpat

/// Parses one XML document from untrusted bytes, by expat.
///
/// A document type declaration is refused as soon as it begins: without one there are no entities to expand and nothing
/// outside the document to load.
package enum XMLParser {
  /// Why a text is not accepted.
  package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
    /// Bytes from the start, where parsing stopped.
    package let offset: Int
    package let reason: String
    package var description: String { "invalid XML at byte \(offset): \(reason)" }
  }

  /// Limits for any input.
  package struct Limits: Sendable, Hashable {
    /// Bytes of the whole document.
    package var size: Int
    /// Elements inside each other.
    package var depth: Int
    /// Elements in all.
    package var elements: Int

    package init(size: Int = 8 << 20, depth: Int = 64, elements: Int = 200_000) {
      self.size = size
      self.depth = depth
      self.elements = elements
    }
  }

  /// - Returns: the document's root element.
  /// - Throws: `Failure` for a text that is too long, too deep, has too many elements or a DTD, or is not XML.
  package static func parse(_ bytes: [UInt8], limits: Limits = Limits()) throws(Failure) -> XMLElement {
    guard bytes.count <= limits.size else {
      throw Failure(offset: limits.size, reason: "\(bytes.count) bytes are more than the \(limits.size) allowed")
    }
    guard let parser = ExpatParser(limits: limits) else { throw Failure(offset: 0, reason: "no memory for a parser") }
    return try parser.parse(bytes)
  }
}

/// Owns an expat parser for one document.
private struct ExpatParser: ~Copyable {
  private let parser: OpaquePointer
  private let sink: Sink

  init?(limits: XMLParser.Limits) {
    guard let parser = XML_ParserCreate(nil) else { return nil }
    self.parser = parser
    sink = Sink(parser: parser, limits: limits)
  }

  deinit { XML_ParserFree(parser) }

  func parse(_ bytes: [UInt8]) throws(XMLParser.Failure) -> XMLElement {
    // SAFETY: `sink` outlives the calls below, and expat calls back only from within XML_Parse.
    XML_SetUserData(parser, Unmanaged.passUnretained(sink).toOpaque())
    XML_SetElementHandler(
      parser, { context, name, _ in Sink.of(context)?.start(name) }, { context, _ in Sink.of(context)?.end() })
    XML_SetCharacterDataHandler(parser) { context, text, count in Sink.of(context)?.add(text, Int(count)) }
    XML_SetStartDoctypeDeclHandler(parser) { context, _, _, _, _ in
      Sink.of(context)?.stop("a document type declaration is not allowed")
    }
    // SAFETY: the buffer is used within the call only; its size fits since `Limits.size` was checked.
    let status = bytes.withUnsafeBytes { bytes in
      XML_Parse(parser, bytes.bindMemory(to: CChar.self).baseAddress, Int32(clamping: bytes.count), Int32(XML_TRUE))
    }
    guard status == XML_STATUS_OK, let root = sink.builder.root else {
      let words = XML_ErrorString(XML_GetErrorCode(parser)).map { String(cString: $0) } ?? "no reason given"
      let offset = Int(XML_GetCurrentByteIndex(parser))
      throw XMLParser.Failure(offset: max(0, offset), reason: sink.refusal ?? words)
    }
    return root
  }
}

/// What expat's callbacks write to.
private final class Sink {
  private let parser: OpaquePointer
  private let limits: XMLParser.Limits
  private var elements = 0
  var builder = XMLTreeBuilder()
  var refusal: String?

  init(parser: OpaquePointer, limits: XMLParser.Limits) {
    self.parser = parser
    self.limits = limits
  }

  /// The sink behind expat's user data.
  static func of(_ context: UnsafeMutableRawPointer?) -> Sink? {
    // SAFETY: the pointer is the one that `ExpatParser.parse` set, of a sink that lives as long as the parser.
    context.map { Unmanaged<Sink>.fromOpaque($0).takeUnretainedValue() }
  }

  func start(_ name: UnsafePointer<XML_Char>?) {
    guard refusal == nil, let name else { return }
    elements += 1
    guard elements <= limits.elements else { return stop("more than \(limits.elements) elements") }
    guard builder.depth < limits.depth else { return stop("elements are more than \(limits.depth) deep") }
    builder.start(String(cString: name))
  }

  func end() {
    if refusal == nil { builder.end() }
  }

  func add(_ text: UnsafePointer<XML_Char>?, _ count: Int) {
    guard refusal == nil, let text else { return }
    // SAFETY: expat gives `count` bytes that are valid for this call; CChar and UInt8 have one layout.
    text.withMemoryRebound(to: UInt8.self, capacity: count) {
      builder.add(UnsafeBufferPointer(start: $0, count: count))
    }
  }

  func stop(_ reason: String) {
    refusal = reason
    XML_StopParser(parser, XML_Bool(XML_FALSE))
  }
}
