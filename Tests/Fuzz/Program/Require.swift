// SPDX-License-Identifier: Apache-2.0

/// Ends the process if a property does not hold. Unlike `precondition`, it names the property even if optimized.
func require(
  _ holds: Bool, _ property: @autoclosure () -> String = "", file: StaticString = #file, line: UInt = #line
) {
  if !holds { fatalError(property(), file: file, line: line) }
}
