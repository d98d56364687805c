// SPDX-License-Identifier: Apache-2.0
internal import VPCModel

extension NftablesSocket {
  /// A table by its name, and its desired state; nil to delete it.
  package typealias Wanted = (table: NftablesTableID, content: NftablesTable?)

  /// How often the state is read again when a foreign transaction comes between read and write. The last try omits the
  /// kernel's check, so that a busy program (kube-proxy) cannot block writes.
  private static var guardedAttempts: Int { 8 }

  /// Brings the tables into exactly the desired state, all in one transaction.
  ///
  /// - Returns: the changes; empty if all was in place, and then nothing was written.
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

  /// The changes needed; empty if all is in place. Writes nothing.
  package func changes(to wanted: [Wanted]) throws(NftablesError) -> NftablesTransaction {
    var transaction = NftablesTransaction()
    for (table, content) in wanted {
      let present = try read(table)
      transaction.append(NftablesOperation.difference(from: present, to: content), to: table)
    }
    return transaction
  }
}
