// SPDX-License-Identifier: Apache-2.0

import CFuzzer
import VPCModel

/// libFuzzer's hook for structured inputs.
@_cdecl("LLVMFuzzerCustomMutator")
public func customMutator(
  _ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ maximum: Int, _ seed: UInt32
) -> Int {
  guard FuzzTarget.chosen?.keepsAttributes == true else { return LLVMFuzzerMutate(data, size, maximum) }
  var random = SplitMix64(seed: UInt64(seed))
  let changed = AttributeMutator.mutate(Array(UnsafeBufferPointer(start: data, count: size)), &random)
  guard changed.count <= maximum else { return size }
  for (index, byte) in changed.enumerated() { data[index] = byte }
  return changed.count
}

/// Mutates netlink messages only into messages that Linux could send, because libnftnl trusts the kernel. Every
/// attribute keeps its length (a number of three bytes ends the process), a nest keeps its members, and an expression
/// keeps its name and a verdict its code (a jump without a chain crashes).
enum AttributeMutator {
  private indirect enum Node {
    case leaf(type: UInt16, value: [UInt8])
    case nest(type: UInt16, members: [Node])
  }

  /// The netlink header, the nf_tables header, and the attributes.
  private struct Message {
    var head: [UInt8]
    var nodes: [Node]
  }

  private static let headSize = 20

  static func mutate(_ bytes: [UInt8], _ random: inout SplitMix64) -> [UInt8] {
    var messages = read(bytes)
    guard let chosen = messages.indices.randomElement(using: &random) else { return bytes }
    switch Int.random(in: 0..<16, using: &random) {
    case 0: messages.remove(at: chosen)
    case 1: messages.insert(messages[chosen], at: chosen)
    case 2: messages[chosen].head[16] = [2, 10].randomElement(using: &random) ?? 2
    default:
      for _ in 0..<Int.random(in: 1...3, using: &random) { change(&messages[chosen].nodes, isNested: false, &random) }
    }
    return messages.flatMap { message in
      var whole = message.head + encode(message.nodes)
      withUnsafeBytes(of: UInt32(whole.count).littleEndian) { whole.replaceSubrange(0..<4, with: $0) }
      return whole
    }
  }

  private static func change(_ nodes: inout [Node], isNested: Bool, _ random: inout SplitMix64) {
    guard let chosen = nodes.indices.randomElement(using: &random) else { return }
    let choice = isNested ? 2 : Int.random(in: 0..<12, using: &random)
    switch (choice, nodes[chosen]) {
    case (0, _): nodes.remove(at: chosen)
    case (1, let node): nodes.insert(node, at: nodes.indices.randomElement(using: &random) ?? 0)
    case (_, .nest(let type, var members)):
      change(&members, isNested: true, &random)
      nodes[chosen] = .nest(type: type, members: members)
    case (_, .leaf(_, let value)) where value.isEmpty || value.starts(with: [0xff, 0xff, 0xff]): break
    case (_, .leaf(let type, var value)):
      // A zero byte at the end may terminate a text.
      let count = value.last == 0 ? value.count - 1 : value.count
      // NFTA_EXPR_NAME decides how the other members are read.
      let isName = type & 0x3fff == 1 && value.last == 0 && (value.first ?? 0) >= 0x61
      guard count > 0, !(isNested && isName) else { return }
      // If the mutation shrinks the value, the bytes behind its new end stay as they are.
      _ = value.withUnsafeMutableBufferPointer { LLVMFuzzerMutate($0.baseAddress, count, count) }
      nodes[chosen] = .leaf(type: type, value: value)
    }
  }

  private static func read(_ bytes: [UInt8]) -> [Message] {
    var messages: [Message] = []
    var rest = bytes[...]
    while rest.count >= headSize {
      let length = Int(number(rest, 2)) | Int(number(rest.dropFirst(2), 2)) << 16
      guard length >= headSize, length <= rest.count else { break }
      let message = rest.prefix(length)
      if let nodes = read(attributes: message.dropFirst(headSize), isNested: false) {
        messages.append(Message(head: Array(message.prefix(headSize)), nodes: nodes))
      }
      rest = rest.dropFirst((length + 3) & ~3)
    }
    return messages
  }

  /// Nil if the bytes are not a list of attributes.
  private static func read(attributes bytes: ArraySlice<UInt8>, isNested: Bool) -> [Node]? {
    var nodes: [Node] = []
    var rest = bytes
    while !rest.isEmpty {
      guard rest.count >= 4 else { return nil }
      let (length, type) = (Int(number(rest, 2)), number(rest.dropFirst(2), 2))
      guard length >= 4, length <= rest.count, !isNested || (1...64).contains(type & 0x3fff) else { return nil }
      let value = rest.prefix(length).dropFirst(4)
      // The kernel does not mark nests: a value that parses as a list of attributes counts as one.
      if value.count >= 8, let members = read(attributes: value, isNested: true) {
        nodes.append(.nest(type: type, members: members))
      } else {
        nodes.append(.leaf(type: type, value: Array(value)))
      }
      rest = rest.dropFirst((length + 3) & ~3)
    }
    return nodes
  }

  private static func encode(_ nodes: [Node]) -> [UInt8] {
    nodes.flatMap { node in
      let (type, value) =
        switch node {
        case .leaf(let type, let value): (type, value)
        case .nest(let type, let members): (type, encode(members))
        }
      let length = UInt16(truncatingIfNeeded: value.count + 4)
      let head = [length, type].flatMap { [UInt8($0 & 0xff), UInt8($0 >> 8)] }
      return head + value + Array(repeating: 0, count: -value.count & 3)
    }
  }

  /// Reads a little-endian number; all supported machines are little-endian.
  private static func number(_ bytes: ArraySlice<UInt8>, _ count: Int) -> UInt16 {
    bytes.prefix(count).reversed().reduce(0) { $0 << 8 | UInt16($1) }
  }
}
