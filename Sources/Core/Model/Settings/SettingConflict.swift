// SPDX-License-Identifier: Apache-2.0

/// Two valid settings that conflict. The agent starts and logs it.
package struct SettingConflict: Sendable, Hashable, CustomStringConvertible {
  /// The variable to check.
  package let name: String
  /// What was set, cut to 200 characters.
  package let value: String
  /// The effect, and the remedy.
  package let outcome: String

  init(_ setting: Setting, _ value: String, _ outcome: String) {
    name = setting.name
    self.value = String(value.prefix(200))
    self.outcome = outcome
  }

  package var description: String { "\(name) is \"\(value)\": \(outcome)" }
}

extension Settings {
  /// Bits of the packet mark that programs found on every node use for themselves.
  private static let foreignMarks: [(bits: UInt32, owner: String)] = [
    (0xc000, "kube-proxy and kubelet (0x4000, 0x8000)"), (0x2000, "the portmap plugin (0x2000)"),
  ]

  /// Conflicts of the settings, in the order of the documentation.
  package var conflicts: [SettingConflict] {
    var found: [SettingConflict] = []
    if podMTU > eniMTU {
      found.append(
        SettingConflict(
          .podMTU, "\(podMTU)",
          "more than AWS_VPC_ENI_MTU \(eniMTU): the node fragments or drops large packets of pods; set it to \(eniMTU) or less"
        ))
    }
    if usesExternalSNAT {
      let idle =
        "no effect with AWS_VPC_K8S_CNI_EXTERNALSNAT=true, which disables SNAT on the node; unset one of them"
      if !excludedSNATCIDRs.isEmpty {
        found.append(SettingConflict(.excludeSNATCIDRs, Settings.text(excludedSNATCIDRs), idle))
      }
      if snatPorts != .prng { found.append(SettingConflict(.randomizeSNAT, snatPorts.rawValue, idle)) }
    } else if let all = excludedSNATCIDRs.first(where: { $0.length == 0 }) {
      found.append(
        SettingConflict(
          .excludeSNATCIDRs, "\(all)",
          "this disables SNAT; AWS_VPC_K8S_CNI_EXTERNALSNAT=true does the same without rules for every packet"
        ))
    }
    found += Settings.nested(.excludeSNATCIDRs, excludedSNATCIDRs)
    found += Settings.nested(.externalServiceCIDRs, externalServiceCIDRs)
    for (setting, bits) in [(Setting.connmark, connmark.mask), (.eniMarkMask, eniMarkMask)] {
      for foreign in Settings.foreignMarks where bits & foreign.bits != 0 {
        found.append(
          SettingConflict(
            setting, "0x\(String(bits, radix: 16))",
            "shares a bit with \(foreign.owner): their marks would overwrite each other; choose other bits"))
      }
    }
    return found
  }

  /// Entries that lie within another one.
  private static func nested(_ setting: Setting, _ list: [IPPrefix]) -> [SettingConflict] {
    list.compactMap { inner in
      guard let outer = list.first(where: { $0 != inner && $0.contains(inner) }) else { return nil }
      return SettingConflict(setting, "\(inner)", "no effect, it is within \(outer) of the same list; remove it")
    }
  }

  private static func text(_ list: [IPPrefix]) -> String { list.map(\.description).joined(separator: ",") }
}
