// SPDX-License-Identifier: Apache-2.0
// struct timespec counts as CProcess's, whose headers include time.h too.
internal import CProcess
internal import Glibc
internal import VPCModel

extension Duration {
  /// How long one poll(2) waits, in milliseconds: rounded up, since a wait rounded down to zero would spin; at most about
  /// a minute, after which the caller looks at its clock again.
  package var pollMilliseconds: Int32 { Int32(min(max(wholeMilliseconds + 1, 0), 60_000)) }
}

extension timespec {
  init(nanoseconds: Int64) {
    self.init(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
  }
}
