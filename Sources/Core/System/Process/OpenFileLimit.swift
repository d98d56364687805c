// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// How many descriptors this process may have open, RLIMIT_NOFILE.
package enum OpenFileLimit {
  /// The soft limit, at most `Int32.max`.
  package static var current: Int { Int(clamping: min(limits?.rlim_cur ?? 1_024, rlim_t(Int32.max))) }

  /// Raises the soft limit to `wanted`, as far as the hard limit allows; a higher one stays.
  ///
  /// - Returns: the soft limit now.
  package static func raise(to wanted: Int) -> Int {
    guard var found = limits, found.rlim_cur < rlim_t(wanted) else { return current }
    found.rlim_cur = min(rlim_t(wanted), found.rlim_max)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &found)  // refused: the old limit stays and is returned
    return current
  }

  private static var limits: rlimit? {
    var found = rlimit()
    return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &found) == 0 ? found : nil
  }
}
