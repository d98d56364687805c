// SPDX-License-Identifier: Apache-2.0

/// The rules of single variables that are more than a type and a range.
extension Settings {
  static func vethPrefix(_ reader: SettingReader) throws(SettingError) -> String {
    guard let value = reader.text(.vethPrefix) else { return Setting.vethPrefix.fallback }
    let isPlain = value.utf8.allSatisfy { 48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 }
    guard (1...4).contains(value.utf8.count), isPlain, !["eth", "lo", "vlan"].contains(value) else {
      throw reader.refuse(.vethPrefix, value)
    }
    return value
  }

  static func absolutePath(_ setting: Setting, _ reader: SettingReader) throws(SettingError) -> String {
    let value = reader.textOrDefault(setting)
    guard value.utf8.first == UInt8(ascii: "/"), value.utf8.count < 4096, !value.utf8.contains(0) else {
      throw reader.refuse(setting, value)
    }
    return value
  }

  static func listenAddress(_ setting: Setting, _ reader: SettingReader) throws(SettingError) -> ListenAddress {
    let value = reader.textOrDefault(setting)
    guard let address = ListenAddress(value) else { throw reader.refuse(setting, value) }
    return address
  }

  static func connmark(_ reader: inout SettingReader) -> PacketMark {
    guard let value = reader.text(.connmark) else { return .primary }
    guard let number = SettingReader.cNumber(value), (1...UInt64(UInt32.max)).contains(number) else {
      reader.warn(.connmark, value, used: Setting.connmark.fallback)
      return .primary
    }
    let bits = UInt32(truncatingIfNeeded: number)
    return PacketMark(value: bits, mask: bits)
  }

  /// The mask's bits must be contiguous: they hold ENI numbers.
  static func eniMarkMask(_ reader: SettingReader, connmark: PacketMark) throws(SettingError) -> UInt32 {
    guard let value = reader.text(.eniMarkMask) else {
      guard PacketMark.defaultENIMask & connmark.mask == 0 else {
        throw reader.refuse(.eniMarkMask, Setting.eniMarkMask.fallback)
      }
      return PacketMark.defaultENIMask
    }
    guard let number = SettingReader.cNumber(value), (1...UInt64(UInt32.max)).contains(number) else {
      throw reader.refuse(.eniMarkMask, value)
    }
    let mask = UInt32(truncatingIfNeeded: number)
    let shifted = mask >> UInt32(mask.trailingZeroBitCount)
    guard mask & connmark.mask == 0, shifted & (shifted &+ 1) == 0 else { throw reader.refuse(.eniMarkMask, value) }
    return mask
  }

  /// Checked case-insensitively, passed on verbatim.
  static func networkPolicyMode(_ reader: SettingReader) throws(SettingError) -> String {
    guard let value = reader.text(.networkPolicyMode) else { return "" }
    guard ["none", "strict", "standard"].contains(value.lowercased()) else {
      throw reader.refuse(.networkPolicyMode, value)
    }
    return value
  }

  /// Bad JSON causes a warning and no tags; reserved keys are dropped, and keys that EC2 would refuse. Source: "Tag
  /// your Amazon EC2 resources", tag restrictions: 50 tags, of which up to four are the agent's.
  static func tags(_ reader: inout SettingReader) -> [String: String] {
    guard let value = reader.text(.additionalTags) else { return [:] }
    let limits = JSONParser.Limits(size: 1 << 16, depth: 2)
    guard let object = try? JSONParser.parse(Array(value.utf8), limits: limits).object else {
      // Both are treated alike: neither contains tags.
      reader.warn(.additionalTags, value, used: "no additional tags")
      return [:]
    }
    var tags: [String: String] = [:]
    for member in object.members {
      guard !member.key.contains("k8s.amazonaws.com"), let text = member.value.string, isTag(member.key, text),
        tags.count < 46
      else {
        reader.warn(.additionalTags, member.key, used: "the other tags")
        continue
      }
      tags[member.key] = text
    }
    return tags
  }

  private static func isTag(_ key: String, _ value: String) -> Bool {
    (1...128).contains(key.unicodeScalars.count) && value.unicodeScalars.count <= 256
      && !key.lowercased().hasPrefix("aws:")
  }

  /// What the agent of an IPv6 cluster requires besides. The init container gets ENABLE_IPv6 only.
  ///
  /// - Throws: `SettingError`, as amazon-vpc-cni-k8s exits.
  package func checkFamily() throws(SettingError) {
    guard family == .ipv6 else { return }
    guard usesPrefixes else {
      throw SettingError(
        name: Setting.prefixDelegation.name, value: "false",
        allowed: "\"true\" with \(Setting.enableIPv6.name)=true: each node gets one prefix for its pods")
    }
    guard !usesCustomNetworking else {
      throw SettingError(
        name: Setting.customNetworking.name, value: "true",
        allowed: "\"false\" with \(Setting.enableIPv6.name)=true: pods get addresses of the primary ENI's subnet")
    }
  }

  /// The pool settings for an instance with these limits.
  ///
  /// - Parameters:
  ///   - limits: of the instance type.
  ///   - maxPods: pods that the node may have.
  package func pool(limits: InstanceLimits, maxPods: Int) -> PoolSettings {
    var pool = PoolSettings(
      instanceENILimit: limits.eniLimit, slotsPerENI: max(limits.ipv4Limit - 1, 0), maxENI: maxENI, maxPods: maxPods,
      warmENITarget: warmENITarget, warmIPTarget: warmIPTarget, minimumIPTarget: minimumIPTarget,
      warmPrefixTarget: warmPrefixTarget, usesPrefixes: usesPrefixes && limits.supportsPrefixes,
      usesCustomNetworking: usesCustomNetworking, cooldown: cooldown, provisions: provisions,
      managesUnschedulable: managesUnschedulable)
    guard family == .ipv6 else { return pool }
    pool.family = .ipv6
    pool.usesPrefixes = true
    // One prefix, and one more where EC2 took the first from under running pods.
    pool.slotsPerENI = 2
    // One free address is enough reason for the ENI's prefix, and no number of pods for a second one.
    (pool.warmENITarget, pool.warmIPTarget, pool.minimumIPTarget, pool.warmPrefixTarget) = (0, 1, 0, 0)
    return pool
  }
}
