// SPDX-License-Identifier: Apache-2.0

/// Text written directly into bytes.
struct CheckpointBytes: Sendable {
  var bytes: [UInt8] = []

  init(capacity: Int) { bytes.reserveCapacity(capacity) }

  mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

  /// Decimal digits, without intermediate strings.
  mutating func number(_ value: Int64) {
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    var rest = value.magnitude
    let first = bytes.count
    repeat {
      bytes.append(48 + UInt8(truncatingIfNeeded: rest % 10))
      rest /= 10
    } while rest > 0
    bytes[first...].reverse()
  }

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

  /// Dotted decimal without intermediate strings; IPv6 as its description.
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
      number(Int64(entry.interfacesCount))
    }
    raw("}}")
  }

  mutating func cooldown(_ entry: CheckpointCooldown) {
    raw("{\"ip\":\"")
    address(entry.address)
    raw("\",\"until\":")
    number(entry.untilUnixNanoseconds)
    raw("}")
  }

  mutating func returned(_ entry: CheckpointReturn) {
    var eni: ENIID?
    raw("{")
    switch entry.subject {
    case .eni(let id): eni = id
    case .cidr(let cidr, of: let id):
      raw("\"cidr\":\"")
      address(cidr.address)
      raw("/")
      number(Int64(cidr.length))
      raw(id == nil ? "\"" : "\",")
      eni = id
    }
    if let eni {
      raw("\"eni\":")
      string(eni.text)
    }
    if let until = entry.untilUnixNanoseconds {
      raw(",\"until\":")
      number(until)
    }
    raw("}")
  }

  mutating func clock(_ clock: CheckpointClock) {
    raw(",\"clock\":{\"bootID\":")
    string(clock.bootID)
    raw(",\"boot\":")
    number(clock.time.instant.nanoseconds)
    raw(",\"unix\":")
    number(clock.time.unixNanoseconds)
    raw("}")
  }
}
