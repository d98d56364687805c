// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel

/// The source map in the kernel: the agent's nftables table, which marks every packet from a pod's address with the
/// mark of the ENI that has the address.
///
///     table ip vpc-cni {
///       map addresses { type ipv4_addr : verdict; elements = { 10.0.1.5 : goto eni-1 } }
///       map prefixes  { type ipv4_addr : verdict; flags interval; elements = { 10.0.2.0/28 : goto eni-2 } }
///       map enis      { type ipv4_addr : verdict; elements = { 10.0.1.4 : goto eni-1 } }
///       chain eni-1 { meta mark set meta mark & 0xffffff80 | 0x1 }
///       chain eni-2 { meta mark set meta mark & 0xffffff80 | 0x2 }
///       chain prerouting {
///         type filter hook prerouting priority -50;
///         ct direction reply ct original ip daddr vmap @enis
///         iifname "eni*" jump from-pods
///       }
///       chain from-pods {
///         meta mark set meta mark & 0xffffff80
///         ip saddr vmap @addresses
///         ip saddr vmap @prefixes
///       }
///       chain output { type route hook output priority mangle; the same three lookups }
///     }
///
/// Remembers what it wrote last, so that single addresses can be added and removed. Not Sendable: one owner, on a thread
/// that may block.
package final class ENIMarkTable {
  /// Not `aws-cni`, which amazon-vpc-cni-k8s manages and removes.
  package static let defaultName = "vpc-cni"

  /// What the kernel holds, unless another program changed it: as last written. Nil before the first `apply`.
  package private(set) var written: ENIMarks?

  private let socket: NftablesSocket
  private let name: String

  package init(socket: NftablesSocket, name: String = ENIMarkTable.defaultName) {
    self.socket = socket
    self.name = name
  }

  /// Brings the kernel into exactly this state, in one transaction for both families.
  ///
  /// - Returns: the changes; empty if all was in place, and then nothing was written.
  /// - Throws: `.invalid` for an impossible state; `.refused`, `.timedOut`. The kernel keeps its state then.
  @discardableResult
  package func apply(_ desired: ENIMarks) throws(NftablesError) -> [NftablesOperation] {
    let operations = try socket.converge(try tables(desired))
    written = desired
    return operations
  }

  /// As `apply`, but does not read the table if only sources differ from what was last written: then one transaction
  /// has just these elements. If the kernel's table was changed meanwhile, all of it is rewritten.
  ///
  /// - Throws: as `apply`.
  package func update(to desired: ENIMarks) throws(NftablesError) {
    guard let written, written.withoutSources == desired.withoutSources else { return _ = try apply(desired) }
    try desired.check()
    var transaction = NftablesTransaction()
    // An address that moves leaves its ENI first.
    for (eni, old) in written.enis {
      append(old.sources.subtracting(desired.enis[eni]?.sources ?? []), of: eni, to: &transaction) {
        .deleteElements(map: $0, $1, $2)
      }
    }
    for (eni, new) in desired.enis {
      append(new.sources.subtracting(written.enis[eni]?.sources ?? []), of: eni, to: &transaction) {
        .addElements(map: $0, $1, $2)
      }
    }
    do {
      if !transaction.isEmpty { try socket.commit(transaction) }
      self.written = desired
    } catch {
      // Another program changed the table: an element is missing or differs, or the table is gone.
      guard error.code == .refused, [ENOENT, EEXIST, EBUSY, ENOTEMPTY].contains(error.errno) else { throw error }
      try apply(desired)
    }
  }

  private func append(
    _ sources: Set<IPPrefix>, of eni: ENIID, to transaction: inout NftablesTransaction,
    _ make: (String, NftablesMap.Shape, [NftablesElement]) -> NftablesOperation
  ) {
    for family in AddressFamily.allCases {
      for isInterval in [false, true] {
        let part = sources.filter { $0.family == family && $0.isSingle != isInterval }.sorted()
        guard let first = part.first else { continue }
        let shape = NftablesMap.Shape(family: family, isInterval: isInterval)
        let elements = part.map { NftablesElement(key: $0, chain: eni.text) }
        transaction.append([make(ENIMarks.map(for: first), shape, elements)], to: id(family))
      }
    }
  }

  /// The changes needed to reach this state; empty if none. Writes nothing.
  ///
  /// - Parameter wanted: nil for the last written state.
  package func differences(from wanted: ENIMarks? = nil) throws(NftablesError) -> [NftablesOperation] {
    guard let wanted = wanted ?? written else { return [] }
    return try socket.changes(to: try tables(wanted)).steps.map(\.operation)
  }

  /// What the kernel's table of a family routes by each ENI; nil if there is no table.
  package func led(_ family: AddressFamily) throws(NftablesError) -> [ENIID: ENIMarks.ENI]? {
    try read(family).map(ENIMarks.led)
  }

  /// The kernel's table of a family; nil if there is none.
  package func read(_ family: AddressFamily) throws(NftablesError) -> NftablesTable? {
    try socket.read(id(family))
  }

  /// Deletes the tables of both families.
  ///
  /// - Returns: false if there was none.
  @discardableResult
  package func remove() throws(NftablesError) -> Bool {
    let operations = try socket.converge(AddressFamily.allCases.map { (id($0), nil) })
    written = nil
    return !operations.isEmpty
  }

  private func id(_ family: AddressFamily) -> NftablesTableID { NftablesTableID(family: family, name: name) }

  private func tables(_ marks: ENIMarks) throws(NftablesError) -> [NftablesSocket.Wanted] {
    try marks.check()
    return AddressFamily.allCases.map { (id($0), marks.table($0)) }
  }
}

extension ENIMarks {
  fileprivate var withoutSources: ENIMarks {
    var copy = self
    for eni in enis.keys { copy.enis[eni]?.sources = [] }
    return copy
  }
}

extension ENIMarkTable {
  /// Faults of the kernel's source map that misroute pod packets, in words. Writes nothing.
  ///
  /// - Parameters:
  ///   - wanted: marks and ENIs; its sources are not compared, since EC2 and IMDS lag behind each other.
  ///   - pods: the ENI of each pod's address, only secondary ENIs.
  package static func faults(
    wanted: ENIMarks, pods: [IPAddress: ENIID], on socket: NftablesSocket, name: String = defaultName
  ) throws(NftablesError) -> [String] {
    try wanted.check()
    var faults: [String] = []
    for family in wanted.families.sorted(by: { $0.rawValue < $1.rawValue }) {
      faults += try self.faults(family, wanted, pods, on: socket, name)
    }
    return faults
  }

  private static func faults(
    _ family: AddressFamily, _ wanted: ENIMarks, _ pods: [IPAddress: ENIID], on socket: NftablesSocket, _ name: String
  ) throws(NftablesError) -> [String] {
    let id = NftablesTableID(family: family, name: name)
    guard let present = try socket.read(id) else { return ["no nftables \(id)"] }
    var faults = present.foreign.map { "nftables \(id) has \($0)" }
    for (chain, content) in (wanted.table(family)?.chains ?? [:]).sorted(by: { $0.key < $1.key }) {
      if let found = present.chains[chain], found == content { continue }
      faults.append("chain \(chain) of nftables \(id) is \(present.chains[chain] == nil ? "missing" : "changed")")
    }
    for (identifier, eni) in wanted.enis.sorted(by: { $0.key < $1.key }) {
      guard let address = eni.address, address.family == family else { continue }
      if present.maps[ENIMarks.Name.enis]?.elements[IPPrefix(single: address)] != identifier.text {
        faults.append("replies on connections with \(address) do not leave by \(identifier)")
      }
    }
    let elements = present.maps.filter { $0.key != ENIMarks.Name.enis }.values.flatMap(\.elements)
    for (address, eni) in pods.sorted(by: { $0.key < $1.key }) where address.family == family {
      // The single address wins over a prefix around it.
      let hit = elements.filter { $0.key.contains(address) }.max { $0.key.length < $1.key.length }
      if hit?.value != eni.text { faults.append("packets from \(address) do not leave by \(eni)") }
    }
    return faults
  }
}
