// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Testing
import VPCLinux
import VPCModel

/// The names and rules of egress-cni in iptables, word by word.
@Suite struct EgressRulesTests {
  static let container = String(repeating: "0123456789abcdef", count: 4)

  // The digits are those of `printf %s aws-cniCONTAINER | sha512sum`.
  @Test(arguments: [
    (AddressFamily.ipv4, "aws-cni", "abc4", "CNI-E4-405d58485c711c9e63577"),
    (.ipv6, "aws-cni", "abc6", "CNI-E6-99b562fc2e0b578d89290"),
  ])
  func theChainIsNamedByADigest(family: AddressFamily, network: String, container: String, chain: String) {
    let rules = EgressRules(family: family, network: network, containerID: container)
    #expect(rules.chain == chain && rules.chain.utf8.count == 28)
    #expect(rules.comment == #"name: "aws-cni" id: ""# + container + #"""#)
  }

  @Test func theRulesAreTheContracts() {
    let rules = EgressRules(family: .ipv4, network: "aws-cni", containerID: "abc4")
    let comment = #"-m comment --comment "name: \"aws-cni\" id: \"abc4\"""#
    let text = rules.addition(
      of: IPAddress("169.254.172.2")!, nodeAddress: IPAddress("10.0.0.4")!, randomization: .fully)
    #expect(
      text == """
        *nat
        :\(rules.chain) - [0:0]
        -A \(rules.chain) -d 224.0.0.0/4 \(comment) -j ACCEPT
        -A \(rules.chain) \(comment) -j SNAT --to-source 10.0.0.4 --random-fully
        -A POSTROUTING -s 169.254.172.2/32 \(comment) -j \(rules.chain)
        COMMIT

        """)
    #expect(
      rules.removal(of: IPAddress("169.254.172.2")!) == """
        *nat
        :\(rules.chain) - [0:0]
        -D POSTROUTING -s 169.254.172.2/32 \(comment) -j \(rules.chain)
        -X \(rules.chain)
        COMMIT

        """)
  }

  @Test(arguments: [(HostRules.Randomization.fully, " --random-fully"), (.hashed, " --random"), (.none, "")])
  func portsAreChosenAsTheSettingSays(randomization: HostRules.Randomization, ending: String) {
    let rules = EgressRules(family: .ipv6, network: "aws-cni", containerID: "abc6")
    let lines = rules.addition(
      of: IPAddress("fd00::ac:2")!, nodeAddress: IPAddress("2001:db8::4")!, randomization: randomization
    ).split(separator: "\n")
    #expect(lines[2].hasPrefix("-A \(rules.chain) -d ff00::/8 -m comment"))
    #expect(lines[3].hasSuffix("-j SNAT --to-source 2001:db8::4" + ending))
    #expect(lines[4].hasPrefix("-A POSTROUTING -s fd00::ac:2/128 -m comment"))
  }

  @Test func removalFindsEveryRuleThatLeadsToTheChain() {
    let rules = EgressRules(family: .ipv4, network: "aws-cni", containerID: "abc4")
    let chain = rules.chain
    let save = """
      # Generated
      *nat
      :POSTROUTING ACCEPT [0:0]
      :\(chain) - [0:0]
      :\(chain)0 - [0:0]
      -A POSTROUTING -s 169.254.172.2/32 -m comment --comment "name: \\"aws-cni\\" id: \\"abc4\\"" -j \(chain)
      -A POSTROUTING -s 169.254.172.3/32 -j \(chain)
      -A POSTROUTING -m comment --comment "\(chain)" -j KUBE-POSTROUTING
      -A OTHER -g \(chain)
      -A POSTROUTING -s 169.254.172.3/32 -j \(chain)0
      -A \(chain) -d 224.0.0.0/4 -j ACCEPT
      COMMIT

      """
    #expect(
      rules.removal(from: save)?.split(separator: "\n").map(String.init) == [
        "*nat", ":\(chain) - [0:0]",
        #"-D POSTROUTING -s 169.254.172.2/32 -m comment --comment "name: \"aws-cni\" id: \"abc4\"" -j "# + chain,
        "-D POSTROUTING -s 169.254.172.3/32 -j \(chain)", "-D OTHER -g \(chain)", "-X \(chain)", "COMMIT",
      ])
    #expect(rules.removal(from: "*nat\n:POSTROUTING ACCEPT [0:0]\n:\(chain)0 - [0:0]\nCOMMIT\n") == nil)
    #expect(rules.removal(from: "") == nil)
  }
}
