// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// The result of ADD after other chained plugins: their complete result, followed by this plugin's.
///
/// Unknown members stay unchanged. For a result of another version only the addresses' `version` is adapted: it is
/// required up to 0.4.0, and forbidden from 1.0.0 on. Source: CNI specification 1.1.0, section 5, "ADD Success": a
/// plugin that gets a `prevResult` passes it on.
enum ChainResult {
  /// - Parameters:
  ///   - own: this plugin's result as the first of the chain.
  ///   - previous: the configuration's `prevResult`, already validated by `CNIResult`.
  /// - Returns: `own` for versions without chaining.
  static func append(_ own: JSONValue, to previous: JSONValue, version: CNIVersion) -> JSONValue {
    guard version >= .v030, var result = previous.object, let ours = own.object else { return own }
    let interfaces = result["interfaces"]?.array ?? []
    let addresses = (result["ips"]?.array ?? []).map { fitted($0, version) }
    let ownAddresses = (ours["ips"]?.array ?? []).map { moved($0, by: interfaces.count) }
    result["cniVersion"] = .string(version.rawValue)
    for (key, items) in [
      ("interfaces", interfaces + (ours["interfaces"]?.array ?? [])), ("ips", addresses + ownAddresses),
    ] where result[key] != nil || !items.isEmpty {
      result[key] = .array(items)
    }
    if result["dns"] == nil || result["dns"] == .null { result["dns"] = ours["dns"] }
    return .object(result)
  }

  /// An address's index counts from the first interface of the whole result.
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
