// SPDX-License-Identifier: Apache-2.0
internal import VPCModel

extension NftablesSocket {
  /// A table by its name, and what it is to hold; nil for nothing at all.
  package typealias Wanted = (table: NftablesTableID, content: NftablesTable?)

  /// How often the state is read again when somebody else's transaction comes between reading and writing. The try
  /// after these goes without the kernel's check, so that a busy neighbour (kube-proxy) cannot keep us from writing.
  private static var guardedAttempts: Int { 8 }

  /// Makes the tables hold exactly what is wanted, all in one transaction.
  ///
  /// - Returns: what had to change; empty where all was in place, and then nothing was written.
  /// - Throws: `.refused`, `.timedOut`, `.interrupted`; the kernel keeps its state then.
  @discardableResult
  package func converge(_ wanted: [Wanted]) throws(NftablesError) -> [NftablesOperation] {
    for _ in 0..<NftablesSocket.guardedAttempts {
      let generation = try generation()
      do {
        let transaction = try changes(to: wanted)
        try commit(transaction, generation: generation)
        return transaction.steps.map(\.operation)
      } catch {
        guard error.code == .interrupted else { throw error }
      }
    }
    let transaction = try changes(to: wanted)
    try commit(transaction)
    return transaction.steps.map(\.operation)
  }

  /// What would have to change; empty where all is in place. Writes nothing.
  package func changes(to wanted: [Wanted]) throws(NftablesError) -> NftablesTransaction {
    var transaction = NftablesTransaction()
    for (table, content) in wanted {
      let present = try read(table)
      transaction.append(NftablesOperation.difference(from: present, to: content), to: table)
    }
    return transaction
  }
}
