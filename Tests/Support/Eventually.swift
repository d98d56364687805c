// SPDX-License-Identifier: Apache-2.0

/// Looks until a condition holds, at most `limit`; long, since it ends early and a machine may be busy.
///
/// - Returns: whether it came to hold.
package func eventually(within limit: Duration = .seconds(60), _ condition: () async -> Bool) async -> Bool {
  let deadline = ContinuousClock.now.advanced(by: limit)
  while ContinuousClock.now < deadline {
    if await condition() { return true }
    try? await Task.sleep(for: .milliseconds(2))  // pause between looks
  }
  return await condition()
}
