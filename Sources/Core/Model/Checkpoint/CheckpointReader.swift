// SPDX-License-Identifier: Apache-2.0

/// Reads a checkpoint from untrusted bytes: damage is reported, never fatal. Valid entries are used.
///
/// If two entries claim the same address or attachment, the one with the later timestamp wins (an address is reassigned
/// only after the earlier claim ended); with equal timestamps, the later one in the file.
package struct CheckpointReader {
  /// A part of the file that was not used, or not unchanged.
  package enum Finding: Sendable, Hashable, CustomStringConvertible {
    /// The whole file: empty, too long, not JSON, or not an object.
    case unreadable(String)
    /// The file has another version; entries with the known shape are read.
    case version(String)
    /// One entry of `allocations`, by its index, and why it is skipped.
    case entry(Int, String)
    /// Two entries claim one address; the attachment that lost it.
    case duplicateAddress(IPAddress, dropped: AttachmentKey)
    /// Two entries for one attachment; the dropped address.
    case duplicateKey(AttachmentKey, dropped: IPAddress)
    /// One entry of `cooldowns`.
    case cooldown(Int, String)
    /// One entry of `returns`.
    case givenBack(Int, String)

    package var description: String {
      switch self {
      case .unreadable(let why): "the checkpoint cannot be read: \(why)"
      case .version(let text): "the checkpoint's version is \"\(text)\", not \"\(Checkpoint.version)\""
      case .entry(let index, let why): "allocation \(index) is skipped: \(why)"
      case .duplicateAddress(let address, let key):
        "\(address) appears twice: the older entry, of container \(key.containerID), is skipped"
      case .duplicateKey(let key, let address):
        "container \(key.containerID) appears twice: the older entry, with \(address), is skipped"
      case .cooldown(let index, let why): "cooldown \(index) is skipped: \(why)"
      case .givenBack(let index, let why): "entry \(index) of returns is skipped: \(why)"
      }
    }
  }

  /// The usable content, and the findings.
  package struct Result: Sendable {
    package var checkpoint = Checkpoint()
    package var findings: [Finding] = []
  }

  /// Longer files are not read: 737 pods take about 300 kB.
  package static let maximumSize = 16 << 20
  /// More findings than this are not listed one by one.
  package static let maximumFindings = 100

  private var result = Result()
  /// Entries in the file's order; nil if a later one won.
  private var entries: [CheckpointAllocation?] = []
  private var byKey: [AttachmentKey: Int] = [:]
  private var byAddress: [IPAddress: Int] = [:]

  private init() {}

  /// - Parameter bytes: the whole file. An empty one is unreadable; the caller handles a missing file.
  package static func read(_ bytes: [UInt8]) -> Result {
    let document: JSONValue
    do {
      document = try JSONParser.parse(bytes, limits: JSONParser.Limits(size: maximumSize, depth: 16))
    } catch {
      return Result(findings: [.unreadable(error.description)])
    }
    guard document.object != nil else {
      return Result(findings: [.unreadable("it is \(document.kind), not an object")])
    }
    var reader = CheckpointReader()
    reader.read(document)
    return reader.result
  }

  private mutating func read(_ document: JSONValue) {
    let version = document["version"]?.string ?? ""
    if version != Checkpoint.version { note(.version(String(version.prefix(64)))) }
    switch document["allocations"] {
    case .array(let entries): for (index, entry) in entries.enumerated() { allocation(entry, index) }
    case nil, .null: break
    case .some(let other): note(.unreadable("allocations is \(other.kind), not an array"))
    }
    result.checkpoint.allocations = entries.compactMap { $0 }
    if let entries = document["cooldowns"]?.array {
      for (index, entry) in entries.enumerated() { cooldown(entry, index) }
    }
    if let entries = document["returns"]?.array {
      for (index, entry) in entries.enumerated() { givenBack(entry, index) }
    }
    if let clock = document["clock"], let bootID = clock["bootID"]?.string, let boot = clock["boot"]?.int,
      let unix = clock["unix"]?.int
    {
      result.checkpoint.clock = CheckpointClock(
        bootID: bootID, time: PoolTime(instant: PoolInstant(nanoseconds: Int64(boot)), unixNanoseconds: Int64(unix)))
    }
  }

  private mutating func note(_ finding: Finding) {
    if result.findings.count < CheckpointReader.maximumFindings { result.findings.append(finding) }
  }

  private mutating func allocation(_ value: JSONValue, _ index: Int) {
    guard value.object != nil else { return note(.entry(index, "it is \(value.kind), not an object")) }
    guard let network = value["networkName"]?.string, let container = value["containerID"]?.string,
      let interface = value["ifName"]?.string
    else { return note(.entry(index, "networkName, containerID or ifName is missing or no string")) }
    let key = AttachmentKey(networkName: network, containerID: container, ifName: interface)
    guard key.isComplete else { return note(.entry(index, "networkName, containerID or ifName is empty")) }
    guard let address = CheckpointReader.address(value) else {
      return note(.entry(index, "neither ipv4 nor ipv6 is an address that a pod can have"))
    }
    let metadata = value["metadata"]
    let count = metadata?["interfacesCount"]?.int ?? 0
    enter(
      CheckpointAllocation(
        key: key, address: address, unixNanoseconds: Int64(value["allocationTimestamp"]?.int ?? 0),
        pod: PodName(
          namespace: metadata?["k8sPodNamespace"]?.string ?? "", name: metadata?["k8sPodName"]?.string ?? ""),
        interfacesCount: (1...1000).contains(count) ? count : 1))
  }

  private static func address(_ value: JSONValue) -> IPAddress? {
    for (name, family) in [("ipv4", AddressFamily.ipv4), ("ipv6", .ipv6)] {
      guard let text = value[name]?.string, !text.isEmpty else { continue }
      guard let address = IPAddress(text), address.family == family, address.isGlobalUnicast else { return nil }
      return address
    }
    return nil
  }

  private mutating func enter(_ entry: CheckpointAllocation) {
    if let place = byKey[entry.key], let old = entries[place] {
      if old.unixNanoseconds > entry.unixNanoseconds {
        return note(.duplicateKey(entry.key, dropped: entry.address))
      }
      if old.address != entry.address { note(.duplicateKey(entry.key, dropped: old.address)) }
      drop(place, old)
    }
    if let place = byAddress[entry.address], let old = entries[place] {
      if old.unixNanoseconds > entry.unixNanoseconds {
        return note(.duplicateAddress(entry.address, dropped: entry.key))
      }
      note(.duplicateAddress(entry.address, dropped: old.key))
      drop(place, old)
    }
    byKey[entry.key] = entries.count
    byAddress[entry.address] = entries.count
    entries.append(entry)
  }

  private mutating func drop(_ place: Int, _ entry: CheckpointAllocation) {
    byKey[entry.key] = nil
    byAddress[entry.address] = nil
    entries[place] = nil
  }

  private mutating func cooldown(_ value: JSONValue, _ index: Int) {
    guard let text = value["ip"]?.string, let address = IPAddress(text), let until = value["until"]?.int else {
      return note(.cooldown(index, "ip or until is missing or not what it should be"))
    }
    guard byAddress[address] == nil else { return note(.cooldown(index, "\(address) is in use")) }
    result.checkpoint.cooldowns.append(
      CheckpointCooldown(address: address, untilUnixNanoseconds: Int64(until)))
  }

  private mutating func givenBack(_ value: JSONValue, _ index: Int) {
    let eni = value["eni"]?.string.flatMap { ENIID($0) }
    let until = value["until"]?.int.map { Int64($0) }
    let subject: CheckpointReturn.Subject
    if let text = value["cidr"]?.string {
      guard let cidr = IPPrefix(text), cidr.address.isGlobalUnicast else {
        return note(.givenBack(index, "cidr is not an address or prefix that an ENI can have"))
      }
      guard eni != nil || until != nil else { return note(.givenBack(index, "neither eni nor until is there")) }
      subject = .cidr(cidr, of: eni)
    } else if let eni {
      subject = .eni(eni)
    } else {
      return note(.givenBack(index, "neither cidr nor eni is what it should be"))
    }
    result.checkpoint.returns.append(CheckpointReturn(subject, untilUnixNanoseconds: until))
  }
}
