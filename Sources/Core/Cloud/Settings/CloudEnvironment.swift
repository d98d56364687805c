// SPDX-License-Identifier: Apache-2.0

/// The environment variables at process start. Nothing else in this layer reads the environment.
package struct CloudEnvironment: Sendable {
  private let variables: [String: String]

  package init(_ variables: [String: String]) { self.variables = variables }

  /// The value of a variable; nil if it is unset or empty, as in the AWS SDKs.
  package subscript(name: String) -> String? {
    guard let value = variables[name], !value.isEmpty else { return nil }
    return value
  }

  /// `true` and `false` in any case, as the AWS SDKs spell switches; absent is false.
  ///
  /// - Throws: `InvalidSetting` for any other value.
  package func flag(_ name: String) throws(InvalidSetting) -> Bool {
    switch self[name]?.lowercased() {
    case nil, "false": return false
    case "true": return true
    default: throw InvalidSetting(name: name, value: self[name] ?? "", expected: "true or false")
    }
  }
}

/// A variable whose value cannot be used.
package struct InvalidSetting: Error, Sendable, Hashable, CustomStringConvertible {
  package let name: String
  /// Nil if the value may be a secret.
  package let value: String?
  /// What would have been accepted.
  package let expected: String

  package init(name: String, value: String?, expected: String) {
    self.name = name
    self.value = value
    self.expected = expected
  }

  package var description: String {
    "\(name)\(value.map { "=\"\($0.prefix(128))\"" } ?? "") is not \(expected)"
  }
}
