// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Build facts that only the compiler knows.
extension BuildFacts {
  /// The compiler's release; Swift reveals it only by comparisons.
  static var compiler: String {
    #if compiler(>=6.4)
      "6.4 or later"
    #elseif compiler(>=6.3)
      "6.3"
    #else
      "6.2"
    #endif
  }

  static var architecture: String {
    #if arch(x86_64)
      "x86_64"
    #elseif arch(arm64)
      "aarch64"
    #else
      "other"
    #endif
  }

  static var mode: String {
    #if DEBUG
      "debug"
    #else
      "release"
    #endif
  }

  var text: String {
    """
    vpc-cni \(version)
    commit        \(commit)
    swift         \(BuildFacts.compiler)
    architecture  \(BuildFacts.architecture)
    build         \(BuildFacts.mode)

    """
  }

  var json: JSONValue {
    [
      "version": .string(version), "commit": .string(commit), "swift": .string(BuildFacts.compiler),
      "architecture": .string(BuildFacts.architecture), "build": .string(BuildFacts.mode),
    ]
  }
}
