// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The rules in iptables' nat table that let one pod leave with its node's address of the other family.
///
/// A value: names in, text for iptables-restore out. Chain, comment and rules are part of the contract: either product
/// removes what the other has made. Source: contract of amazon-vpc-cni-k8s v1.23, egress-cni.
package struct EgressRules: Sendable, Hashable {
  /// The family of the addresses that are translated.
  package let family: AddressFamily
  /// `CNI-E4-` or `CNI-E6-`, and 21 hex digits of SHA-512 of the network's and the container's name.
  package let chain: String
  /// `name: "aws-cni" id: "CONTAINER"`.
  package let comment: String

  /// The kernel stores 255 bytes of a comment. Source: XT_MAX_COMMENT_LEN, linux/netfilter/xt_comment.h.
  package static let longestComment = 255

  /// - Parameters:
  ///   - network: the name of the network's configuration; letters, digits, `_`, `.`, `-`.
  ///   - containerID: the same characters.
  package init(family: AddressFamily, network: String, containerID: String) {
    self.family = family
    let digits = HexDigits.encode(Digest.sha512(Array("\(network)\(containerID)".utf8)))
    chain = (family == .ipv4 ? "CNI-E4-" : "CNI-E6-") + String(digits.prefix(21))
    comment = "name: \"\(network)\" id: \"\(containerID)\""
  }

  /// The input for `iptables-restore --noflush` that makes the rules.
  ///
  /// - Parameters:
  ///   - address: the pod's.
  ///   - nodeAddress: the source address of translated packets.
  package func addition(
    of address: IPAddress, nodeAddress: IPAddress, randomization: HostRules.Randomization
  ) -> String {
    let multicast = family == .ipv4 ? "224.0.0.0/4" : "ff00::/8"
    let rules = [
      IptablesRule(chain, ["-d", multicast] + commented + ["-j", "ACCEPT"]),
      IptablesRule(chain, commented + ["-j", "SNAT", "--to-source", "\(nodeAddress)"] + randomization.words),
      jump(from: address),
    ]
    return text([":\(chain) - [0:0]"] + rules.map { $0.line("-A") })
  }

  /// The input that removes all of them if they are complete; the program refuses it as a whole if they are not.
  package func removal(of address: IPAddress) -> String {
    text([":\(chain) - [0:0]", jump(from: address).line("-D"), "-X \(chain)"])
  }

  /// The input that removes what there is.
  ///
  /// - Parameter saveText: what iptables-save prints for the nat table.
  /// - Returns: nil if there is neither the chain nor a rule that leads to it.
  package func removal(from saveText: String) -> String? {
    var jumps: [IptablesRule] = []
    var hasChain = false
    // By bytes: on a node with thousands of services the text has megabytes, and two lines of it matter.
    let name = Array(chain.utf8)
    for line in saveText.utf8.split(separator: UInt8(ascii: "\n")) where line.contains(name) {
      let line = Substring(line)
      if line.hasPrefix(":\(chain) ") { hasChain = true }
      guard let words = IptablesRule.split(line), words.count > 2, words[0] == "-A" else { continue }
      let rule = IptablesRule(words[1], Array(words.dropFirst(2)))
      if rule.target == chain { jumps.append(rule) }
    }
    guard hasChain else { return nil }
    return text([":\(chain) - [0:0]"] + jumps.map { $0.line("-D") } + ["-X \(chain)"])
  }

  private func jump(from address: IPAddress) -> IptablesRule {
    IptablesRule("POSTROUTING", ["-s", "\(IPPrefix(single: address))"] + commented + ["-j", chain])
  }

  private var commented: [String] { ["-m", "comment", "--comment", comment] }

  private func text(_ lines: [String]) -> String {
    "*nat\n" + lines.joined(separator: "\n") + "\nCOMMIT\n"
  }
}
