// SPDX-License-Identifier: Apache-2.0

extension EC2Client {
  /// What a dry run came to.
  package enum Permission: Sendable, Hashable {
    case granted
    case denied
    /// EC2 did not say, in its words.
    case unknown(String)
  }

  /// Asks EC2 whether it would allow a call: the same call with DryRun set, which EC2 judges and does not do.
  ///
  /// Not every action can be asked so: AssignPrivateIpAddresses and UnassignPrivateIpAddresses refuse the parameter.
  ///
  /// - Parameter fields: of the call, by name.
  /// Source: DryRun of each action in the EC2 API Reference: DryRunOperation for "yes", UnauthorizedOperation for "no".
  package func dryRun(_ action: String, fields: [(name: String, value: String)]) async -> Permission {
    var parameters = EC2Parameters(action: action)
    for field in fields { parameters.set(field.name, field.value) }
    parameters.set("DryRun", true)
    do throws(EC2Error) {
      _ = try await call(action, parameters, .once)
      // What ignores DryRun has done it; none of the calls that are tried harm then.
      return .granted
    } catch {
      if error.code.text == "DryRunOperation" { return .granted }
      return error.isMissingPermission ? .denied : .unknown("\(error)")
    }
  }
}
