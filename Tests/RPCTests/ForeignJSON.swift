// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// Reads JSON by a parser that is not the one under test: objects as `[String: Any]`, arrays as `[Any]`.
func foreignJSON(_ text: some StringProtocol) throws -> Any {
  try JSONDecoder().decode(ForeignJSON.self, from: Data(text.utf8)).value
}

private struct ForeignJSON: Decodable {
  let value: Any

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      value = String?.none as Any
    } else if let flag = try? container.decode(Bool.self) {
      value = flag
    } else if let number = try? container.decode(Int.self) {
      value = number
    } else if let number = try? container.decode(Double.self) {
      value = number
    } else if let text = try? container.decode(String.self) {
      value = text
    } else if let list = try? container.decode([ForeignJSON].self) {
      value = list.map(\.value)
    } else {
      value = try container.decode([String: ForeignJSON].self).mapValues(\.value)
    }
  }
}
