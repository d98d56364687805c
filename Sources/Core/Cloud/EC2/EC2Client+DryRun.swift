// SPDX-License-Identifier: Apache-2.0

extension EC2Client {
  /// The result of a dry run.
  package enum Permission: Sendable, Hashable {
    case granted
    case denied
    /// EC2 did not decide; with its message.
    case unknown(String)
  }

  /// Asks EC2 whether it would allow a call: the same call with DryRun, which EC2 checks but does not execute.
  ///
  /// Not every action supports this: AssignPrivateIpAddresses and UnassignPrivateIpAddresses refuse the parameter.
  ///
  /// - Parameter fields: of the call, by name.
  /// Source: DryRun of each action in the EC2 API Reference: DryRunOperation for "yes", UnauthorizedOperation for "no".
  package func dryRun(_ action: String, fields: [(name: String, value: String)]) async -> Permission {
    var parameters = EC2Parameters(action: action)
    for field in fields { parameters.set(field.name, field.value) }
    parameters.set("DryRun", true)
    do throws(EC2Error) {
      _ = try await call(action, parameters, .once)
      // If EC2 ignores DryRun, the call was executed; none of the calls used here does harm.
      return .granted
    } catch {
      if error.code.text == "DryRunOperation" { return .granted }
      return error.isMissingPermission ? .denied : .unknown("\(error)")
    }
  }
}
