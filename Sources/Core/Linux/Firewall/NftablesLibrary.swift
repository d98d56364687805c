// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import VPCModel

/// libmnl and libnftnl, opened on first use.
package enum NftablesLibrary {
  /// Opens both once per process; any thread may call it repeatedly.
  ///
  /// - Throws: `.unavailable` with the name of the library or the function that is missing.
  package static func load() throws(NftablesError) {
    if let message = outcome({ cnft_load($0, $1) }) {
      throw NftablesError(.unavailable, "open libmnl and libnftnl", detail: message)
    }
  }

  /// The error of `load` if the libraries had these names; nil if it would succeed.
  package static func probe(mnl: String, nftnl: String) -> NftablesError? {
    outcome({ cnft_probe(mnl, nftnl, $0, $1) }).map {
      NftablesError(.unavailable, "open libmnl and libnftnl", detail: $0)
    }
  }

  private static func outcome(_ call: (UnsafeMutablePointer<CChar>, Int) -> Int32) -> String? {
    // SAFETY: the C side writes at most `count` bytes and ends them with NUL.
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer -> String? in
      buffer.initialize(repeating: 0)
      guard let base = buffer.baseAddress, call(base, buffer.count) != 0 else { return nil }
      return String(cString: base)
    }
  }
}
