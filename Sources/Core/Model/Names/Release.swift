// SPDX-License-Identifier: Apache-2.0

/// Which release this is.
package enum Release {
  /// Changed with each release, together with CHANGELOG.md.
  package static let version = "0.1.0"
}
