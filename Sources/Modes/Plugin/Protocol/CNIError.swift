// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// The plugin's error answer: a code, a message for the pod's event, and details.
struct CNIError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The codes that the plugin uses. 0 to 99 are the specification's. Source: CNI specification 1.1.0, section "Error";
  /// 999 is the CNI library's code for other errors.
  struct Code: Sendable, Hashable {
    let number: Int

    static let incompatibleVersion = Code(number: 1)
    static let invalidEnvironment = Code(number: 4)
    static let io = Code(number: 5)
    static let undecodable = Code(number: 6)
    static let invalidConfiguration = Code(number: 7)
    static let tryAgainLater = Code(number: 11)
    /// STATUS: the plugin cannot serve ADD.
    static let notAvailable = Code(number: 50)
    static let failed = Code(number: 999)
  }

  let code: Code
  let message: String
  let details: String

  init(_ code: Code, _ message: String, details: String = "") {
    self.code = code
    self.message = CNIError.bounded(message)
    self.details = CNIError.bounded(details)
  }

  /// A sentence of the contract, which users search for, and the chain of causes.
  init(_ code: Code = .failed, _ sentence: String, cause: any Error) {
    self.init(code, "\(sentence): \(CauseChain.text(cause))")
  }

  var description: String { message }

  /// The JSON object for standard output.
  func json(version: CNIVersion) -> JSONValue {
    var object: JSONObject = [
      "cniVersion": .string(version.rawValue), "code": .integer(code.number), "msg": .string(message),
    ]
    if !details.isEmpty { object["details"] = .string(details) }
    return .object(object)
  }

  /// Messages quote invalid input of unknown length.
  private static func bounded(_ text: String) -> String {
    text.utf8.count <= 4096 ? text : String(decoding: text.utf8.prefix(4096), as: UTF8.self)
  }
}

extension String {
  /// The text in quotes for a message: control characters escaped, at most 64 characters of it.
  var quoted: String {
    let head = prefix(64).unicodeScalars.map {
      $0.value < 0x20 || $0.value == 0x7f ? $0.escaped(asASCII: true) : String($0)
    }
    return "\"\(head.joined())\(count > 64 ? "…" : "")\""
  }
}
