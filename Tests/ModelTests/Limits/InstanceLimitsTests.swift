// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Testing
import VPCModel

@Suite struct InstanceLimitsTests {
  /// The generated table agrees with every row of the source table.
  @Test func tableAgreesWithItsSource() throws {
    let path = PackageTree.root + "/Sources/Core/Model/Limits/instance-limits.tsv"
    let text = String(decoding: try Data(contentsOf: URL(filePath: path)), as: UTF8.self)
    var count = 0
    for line in text.split(separator: "\n") where !line.hasPrefix("#") && !line.hasPrefix("instance_type") {
      let fields = line.split(separator: "\t").map(String.init)
      try #require(fields.count == 7)
      let limits = try #require(InstanceLimits(instanceType: fields[0]), "\(fields[0])")
      #expect(limits.eniLimit == Int(fields[1]))
      #expect(limits.ipv4Limit == Int(fields[2]))
      #expect(limits.hypervisor.rawValue == fields[4])
      #expect(limits.isBareMetal == (fields[5] == "true"))
      let cards = fields[6].split(separator: ",").compactMap { $0.split(separator: ":").last.flatMap { Int($0) } }
      #expect(limits.cards == cards)
      count += 1
    }
    #expect(count == 1391)
  }

  @Test(arguments: ["", " ", "m5", "m5.large ", "M5.LARGE", "zz9.large", "a", "m5.large=3", "\n", "u-24tb1.112xlarge "])
  func unknownTypes(_ type: String) {
    #expect(InstanceLimits(instanceType: type) == nil)
  }

  @Test func prefixesNeedNitroOrBareMetal() throws {
    #expect(try #require(InstanceLimits(instanceType: "m5.large")).supportsPrefixes)
    #expect(try #require(InstanceLimits(instanceType: "m5.metal")).supportsPrefixes)
    #expect(try !#require(InstanceLimits(instanceType: "c4.large")).supportsPrefixes)
    #expect(try #require(InstanceLimits(instanceType: "p5.48xlarge")).cards.count == 32)
  }
}
