// SPDX-License-Identifier: Apache-2.0

/// A list of instance types with the pods that a node of each may have, in the form of eni-max-pods.txt: one type and one
/// number a line, `#` before remarks. Source: amazon-eks-ami and amazon-vpc-cni-k8s, misc/eni-max-pods.txt.
package enum MaxPodsFile {
  /// A line for the requested type without a valid number of pods.
  package struct BadLine: Error, Sendable, Hashable, CustomStringConvertible {
    package let line: Int
    package let text: String

    package var description: String {
      "line \(line) is \"\(text)\": wanted are an instance type and a number from 1 on"
    }
  }

  /// - Returns: nil if the list does not contain the type.
  package static func pods(of type: String, in content: [UInt8]) throws(BadLine) -> Int? {
    for (index, line) in content.split(separator: 0x0a, omittingEmptySubsequences: false).enumerated() {
      let text = line.prefix { $0 != UInt8(ascii: "#") }
      let words = text.split { $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }.map { String(decoding: $0, as: UTF8.self) }
      guard words.first == type else { continue }
      guard words.count == 2, let pods = Int(words[1]), (1...100_000).contains(pods) else {
        throw BadLine(line: index + 1, text: String(decoding: line.prefix(100), as: UTF8.self))
      }
      return pods
    }
    return nil
  }
}
