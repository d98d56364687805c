// SPDX-License-Identifier: Apache-2.0
package import VPCModel

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
    let id = NftablesTableID(family: .ipv4, name: name)
    guard let present = try socket.read(id) else { return ["no nftables \(id)"] }
    var faults = present.foreign.map { "nftables \(id) has \($0)" }
    for (chain, content) in (wanted.table(.ipv4)?.chains ?? [:]).sorted(by: { $0.key < $1.key }) {
      if let found = present.chains[chain], found == content { continue }
      faults.append("chain \(chain) of nftables \(id) is \(present.chains[chain] == nil ? "missing" : "changed")")
    }
    for (identifier, eni) in wanted.enis.sorted(by: { $0.key < $1.key }) {
      guard let address = eni.address else { continue }
      if present.maps[ENIMarks.Name.enis]?.elements[IPPrefix(single: address)] != identifier.text {
        faults.append("replies on connections with \(address) do not leave by \(identifier)")
      }
    }
    let elements = present.maps.filter { $0.key != ENIMarks.Name.enis }.values.flatMap(\.elements)
    for (address, eni) in pods.sorted(by: { $0.key < $1.key }) {
      // The single address wins over a prefix around it.
      let hit = elements.filter { $0.key.contains(address) }.max { $0.key.length < $1.key.length }
      if hit?.value != eni.text { faults.append("packets from \(address) do not leave by \(eni)") }
    }
    return faults
  }
}
