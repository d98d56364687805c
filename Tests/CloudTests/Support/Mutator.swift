// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCModel

/// How long each mutating test runs: FUZZ_SECONDS, by default 1.
let fuzzSeconds = getenv("FUZZ_SECONDS").flatMap { Int(String(cString: $0)) } ?? 1

extension SplitMix64 {
  /// Makes one to eight changes: changes a bit or a byte; removes, doubles or moves a part; cuts off the end.
  mutating func mutate(_ seed: [UInt8]) -> [UInt8] {
    var bytes = seed
    for _ in 0..<Int.random(in: 1...8, using: &self) where !bytes.isEmpty {
      let at = Int.random(in: 0..<bytes.count, using: &self)
      let part = Array(bytes[at...].prefix(Int.random(in: 1...64, using: &self)))
      switch Int.random(in: 0..<6, using: &self) {
      case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &self)
      case 1: bytes[at] = UInt8.random(in: 0...255, using: &self)
      case 2: bytes.removeSubrange(at..<(at + part.count))
      case 3: bytes.insert(contentsOf: part, at: at)
      case 4: bytes.insert(contentsOf: part, at: Int.random(in: 0...bytes.count, using: &self))
      default: bytes.removeSubrange(at...)
      }
    }
    return bytes
  }
}
