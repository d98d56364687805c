// SPDX-License-Identifier: Apache-2.0

/// An element of an XML document: its name, its own text, and its children in order. Attributes are not kept, since
/// EC2 and STS answer without any but `xmlns`.
package struct XMLElement: Sendable, Hashable {
  package let name: String
  /// The character data directly inside the element, white space at both ends removed.
  package fileprivate(set) var text: String
  package fileprivate(set) var children: [XMLElement]

  package init(name: String, text: String = "", children: [XMLElement] = []) {
    self.name = name
    self.text = text
    self.children = children
  }

  /// The first child of that name.
  package subscript(name: String) -> XMLElement? { children.first { $0.name == name } }

  /// The text of the first child of that name; nil if there is none or it is empty.
  package func text(_ name: String) -> String? {
    guard let text = self[name]?.text, !text.isEmpty else { return nil }
    return text
  }

  /// The `item` children of the first child of that name: how EC2 writes a list.
  package func items(_ name: String) -> [XMLElement] {
    self[name]?.children.filter { $0.name == "item" } ?? []
  }

  /// The first element of that name in document order, this one included.
  package func firstDescendant(_ name: String) -> XMLElement? {
    if self.name == name { return self }
    for child in children {
      if let found = child.firstDescendant(name) { return found }
    }
    return nil
  }
}

/// Puts elements together as a parser meets them.
struct XMLTreeBuilder {
  private var open: [XMLElement] = []
  private var texts: [[UInt8]] = []
  private(set) var root: XMLElement?

  var depth: Int { open.count }

  mutating func start(_ name: String) {
    open.append(XMLElement(name: name))
    texts.append([])
  }

  mutating func add(_ text: UnsafeBufferPointer<UInt8>) {
    guard !texts.isEmpty else { return }
    texts[texts.count - 1].append(contentsOf: text)
  }

  mutating func end() {
    guard var element = open.popLast(), let text = texts.popLast() else { return }
    let isSpace = { (byte: UInt8) in byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 }
    let end = text.lastIndex { !isSpace($0) }.map { $0 + 1 } ?? 0
    element.text = String(decoding: text[..<end].drop(while: isSpace), as: UTF8.self)
    if open.isEmpty {
      root = element
    } else {
      open[open.count - 1].children.append(element)
    }
  }
}
