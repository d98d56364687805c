// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// A version of the CNI specification that this plugin speaks, in rising order.
enum CNIVersion: String, Sendable, CaseIterable, Comparable {
  case v010 = "0.1.0"
  case v020 = "0.2.0"
  case v030 = "0.3.0"
  case v031 = "0.3.1"
  case v040 = "0.4.0"
  case v100 = "1.0.0"
  case v110 = "1.1.0"

  /// The newest, used by VERSION and in errors before a configuration has been read.
  static let current = v110

  /// The version of a configuration without `cniVersion`, as in the CNI library.
  static let unnamed = v010

  static func < (left: CNIVersion, right: CNIVersion) -> Bool {
    allCases.firstIndex(of: left) ?? 0 < allCases.firstIndex(of: right) ?? 0
  }

  /// 0.1.0 and 0.2.0 put one address of each family into `ip4` and `ip6`, without interfaces.
  var hasOneAddressPerFamily: Bool { self <= .v020 }

  /// 0.3.0 to 0.4.0 have the family of each address in `version`.
  var saysAddressVersion: Bool { self >= .v030 && self <= .v040 }

  /// CHECK came with 0.4.0.
  var allowsCheck: Bool { self >= .v040 }

  /// GC and STATUS came with 1.1.0.
  var allowsGCAndStatus: Bool { self >= .v110 }

  /// The answer to VERSION.
  static var answer: JSONValue {
    .object([
      "cniVersion": .string(current.rawValue),
      "supportedVersions": .array(allCases.map { .string($0.rawValue) }),
    ])
  }
}
