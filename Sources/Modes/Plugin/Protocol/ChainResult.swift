// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// What ADD answers where other plugins of the chain were asked before: their result, whole, and this plugin's behind it.
///
/// Members that nobody here knows stay as they came. Of a result of another version only the addresses' `version` is made
/// to fit: it must be there up to 0.4.0, and must not from 1.0.0 on.
/// Source: CNI specification 1.1.0, section 5, "ADD Success": a plugin that is given a `prevResult` passes it on.
enum ChainResult {
  /// - Parameters:
  ///   - own: what this plugin would answer as the first of the chain.
  ///   - previous: the configuration's `prevResult`, as it was read without complaint by `CNIResult`.
  /// - Returns: `own` for versions that know no chains.
  static func append(_ own: JSONValue, to previous: JSONValue, version: CNIVersion) -> JSONValue {
    guard version >= .v030, var result = previous.object, let ours = own.object else { return own }
    let interfaces = result["interfaces"]?.array ?? []
    let addresses = (result["ips"]?.array ?? []).map { fitted($0, version) }
    let ownAddresses = (ours["ips"]?.array ?? []).map { moved($0, by: interfaces.count) }
    result["cniVersion"] = .string(version.rawValue)
    result["interfaces"] = .array(interfaces + (ours["interfaces"]?.array ?? []))
    result["ips"] = .array(addresses + ownAddresses)
    if result["dns"] == nil || result["dns"] == .null { result["dns"] = ours["dns"] }
    return .object(result)
  }

  /// The index of an address counts from the first interface of all.
  private static func moved(_ address: JSONValue, by count: Int) -> JSONValue {
    guard var object = address.object, let index = object["interface"]?.int else { return address }
    object["interface"] = .integer(index + count)
    return .object(object)
  }

  private static func fitted(_ address: JSONValue, _ version: CNIVersion) -> JSONValue {
    guard var object = address.object else { return address }
    if !version.saysAddressVersion {
      object["version"] = nil
    } else if object["version"] == nil {
      object["version"] = .string(object["address"]?.string?.contains(":") == true ? "6" : "4")
    }
    return .object(object)
  }
}
