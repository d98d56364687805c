// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@Suite struct MaxPodsFileTests {
  private static let file = Array(
    """
    # Mapping is calculated from AWS EC2 API using the following formula:
    #   a1.2xlarge 99
    a1.2xlarge 58
    m5.large\t29  # a remark
    m5.large 30
    t3.bad many
    t3.none
    t3.zero 0
    c5.large 29 30\r
    """.utf8)

  @Test(
    arguments: [
      ("a1.2xlarge", 58), ("m5.large", 29), ("m5.larg", nil), ("m6.large", nil), ("#", nil), ("", nil),
    ] as [(String, Int?)])
  func rows(_ type: String, _ pods: Int?) throws {
    #expect(try MaxPodsFile.pods(of: type, in: Self.file) == pods)
  }

  @Test(arguments: ["t3.bad", "t3.none", "t3.zero", "c5.large"]) func badRow(_ type: String) {
    let error = #expect(throws: MaxPodsFile.BadLine.self) { try MaxPodsFile.pods(of: type, in: Self.file) }
    #expect(error.map { "\($0)" }?.contains(type) == true)
  }

  @Test func emptyFile() throws {
    #expect(try MaxPodsFile.pods(of: "m5.large", in: []) == nil)
  }
}
