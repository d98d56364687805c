// SPDX-License-Identifier: Apache-2.0

import Glibc
package import Testing

/// What a test needs from the machine. If it is missing, the test is skipped with the reason. With REQUIRE_ALL=1 in the
/// environment, the test runs anyway and so fails.
extension Trait where Self == ConditionTrait {
  /// Effective user 0, with CAP_NET_ADMIN and CAP_SYS_ADMIN.
  package static var requiresRoot: Self {
    .enabled(if: TestNeeds.mustRun || geteuid() == 0, "needs root")
  }

  /// A program on the usual paths.
  package static func requires(program: String) -> Self {
    .enabled(if: TestNeeds.mustRun || TestNeeds.path(of: program) != nil, "needs the program \(program)")
  }
}

package enum TestNeeds {
  /// REQUIRE_ALL=1: no test may be skipped.
  package static var mustRun: Bool { getenv("REQUIRE_ALL").map { String(cString: $0) } == "1" }

  /// The path of a program; nil if it is not installed.
  package static func path(of program: String) -> String? {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"].map { "\($0)/\(program)" }
      .first { access($0, X_OK) == 0 }
  }
}
