// SPDX-License-Identifier: Apache-2.0

extension Checkpoint {
  /// The file's bytes: one line of JSON in the field order of the reference's encoder, empty optional fields left out.
  package func encoded() -> [UInt8] {
    var encoder = CheckpointEncoder()
    return encoder.encode(self)
  }
}

/// Encodes one checkpoint after the other, and only what is new in each: a node with 700 pods writes the file at every
/// ADD and DEL, and one entry of it has changed.
package struct CheckpointEncoder: Sendable {
  /// An entry and its bytes.
  private struct Known: Sendable {
    var entry: CheckpointAllocation
    var bytes: [UInt8]
  }

  /// The entries of the last checkpoint, and where each address's stands. In an array, where an entry is compared
  /// without a copy of its five texts.
  private var known: [Known] = []
  private var places: [IPAddress: Int] = [:]

  package init() {}

  /// The same bytes as `Checkpoint.encoded()`.
  package mutating func encode(_ checkpoint: Checkpoint) -> [UInt8] {
    forgetMost(of: checkpoint)
    let (allocations, cooldowns) = (checkpoint.allocations, checkpoint.cooldowns)
    var out = CheckpointBytes(capacity: 64 + 360 * allocations.count + 80 * cooldowns.count)
    out.raw("{\"version\":\"\(Checkpoint.version)\",\"allocations\":[")
    for index in allocations.indices {
      if index > 0 { out.bytes.append(UInt8(ascii: ",")) }
      out.bytes += known[place(of: allocations[index])].bytes
    }
    out.raw("]")
    if !cooldowns.isEmpty {
      out.raw(",\"cooldowns\":[")
      for (index, entry) in cooldowns.enumerated() {
        out.raw(index > 0 ? ",{\"ip\":" : "{\"ip\":")
        out.string(entry.address.description)
        out.raw(",\"until\":")
        out.number(entry.untilUnixNanoseconds)
        out.raw("}")
      }
      out.raw("]")
    }
    out.raw("}\n")
    return out.bytes
  }

  /// Where the entry's bytes stand.
  private mutating func place(of entry: CheckpointAllocation) -> Int {
    let found = places[entry.address]
    if let found, known[found].entry == entry { return found }
    var out = CheckpointBytes(capacity: 360)
    out.allocation(entry)
    let new = Known(entry: entry, bytes: out.bytes)
    if let found {
      known[found] = new
      return found
    }
    places[entry.address] = known.count
    known.append(new)
    return known.count - 1
  }

  /// Keeps the memory in bounds: addresses that are no longer in use are dropped together, once they are many.
  private mutating func forgetMost(of checkpoint: Checkpoint) {
    guard known.count > 2 * checkpoint.allocations.count + 64 else { return }
    known = []
    places = [:]
  }
}

/// Text written straight into bytes.
private struct CheckpointBytes {
  var bytes: [UInt8] = []

  init(capacity: Int) { bytes.reserveCapacity(capacity) }

  mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

  mutating func number(_ value: some BinaryInteger) { bytes.append(contentsOf: String(value).utf8) }

  /// A JSON string. Names of pods and identifiers need no escape: those are copied whole.
  mutating func string(_ text: String) {
    var text = text
    // SAFETY: the buffer is read inside the closure only, where `text` is not changed.
    let isPlain = text.withUTF8 { buffer in
      for byte in buffer where byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { return false }
      bytes.append(UInt8(ascii: "\""))
      bytes.append(contentsOf: buffer)
      bytes.append(UInt8(ascii: "\""))
      return true
    }
    if !isPlain { bytes.append(contentsOf: JSONValue.string(text).bytes) }
  }

  /// Dotted decimal without the detour over strings; IPv6 as its description.
  mutating func address(_ address: IPAddress) {
    guard address.family == .ipv4 else { return raw(address.description) }
    let bits = UInt32(truncatingIfNeeded: address.bits)
    for shift in [UInt32(24), 16, 8, 0] {
      let octet = UInt8(truncatingIfNeeded: bits >> shift)
      if octet >= 100 { bytes.append(48 + octet / 100) }
      if octet >= 10 { bytes.append(48 + octet / 10 % 10) }
      bytes.append(48 + octet % 10)
      if shift > 0 { bytes.append(UInt8(ascii: ".")) }
    }
  }

  mutating func allocation(_ entry: CheckpointAllocation) {
    raw("{\"networkName\":")
    string(entry.key.networkName)
    raw(",\"containerID\":")
    string(entry.key.containerID)
    raw(",\"ifName\":")
    string(entry.key.ifName)
    raw(entry.address.family == .ipv4 ? ",\"ipv4\":\"" : ",\"ipv6\":\"")
    address(entry.address)
    raw("\",\"allocationTimestamp\":")
    number(entry.unixNanoseconds)
    raw(",\"metadata\":{")
    var separator = ""
    if !entry.pod.namespace.isEmpty {
      raw("\"k8sPodNamespace\":")
      string(entry.pod.namespace)
      separator = ","
    }
    if !entry.pod.name.isEmpty {
      raw(separator)
      raw("\"k8sPodName\":")
      string(entry.pod.name)
      separator = ","
    }
    if entry.interfacesCount != 0 {
      raw(separator)
      raw("\"interfacesCount\":")
      number(entry.interfacesCount)
    }
    raw("}}")
  }
}
