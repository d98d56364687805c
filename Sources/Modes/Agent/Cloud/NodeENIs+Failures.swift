// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel

/// EC2's errors in the pool's terms.
extension NodeENIs {
  func failed(_ error: EC2Error) -> ActionResult {
    // Fewer free addresses than the subnet listing says, or a deleted subnet.
    if error.isInsufficientAddresses || error.code.text == "InvalidSubnetID.NotFound" { subnets.hint(.full) }
    return .failed(NodeENIs.failure(of: error, mayBeDone: error.mayBeDone))
  }

  /// With EC2's message: short for pod events, complete for the log.
  static func failure(of error: EC2Error, mayBeDone: Bool) -> ActionFailure {
    ActionFailure(fault(of: error), mayBeDone: mayBeDone, words: error.words, record: CauseChain.text(error))
  }

  static func fault(of error: EC2Error) -> ActionFailure.Fault {
    if error.isThrottling { return .throttled(call: error.action) }
    if error.isMissingPermission { return .unauthorized(permission: "ec2:\(error.action)") }
    if error.isFragmented { return .noFreePrefix }
    if error.isInsufficientAddresses { return .subnetFull }
    switch error.code {
    case .privateAddressLimitExceeded: return .addressLimit
    case .attachmentLimitExceeded: return .attachmentLimit
    case .interfaceNotFound: return .eniGone
    case .invalidParameterValue where error.message.contains("already has an interface attached at device index"):
      return .deviceTaken
    case .invalidParameterValue where error.message.contains("are not assigned to interface"): return .notAssigned
    default: return .other(String(error.brief.prefix(500)))
    }
  }
}

extension EC2Error {
  /// True if EC2 may have carried out the call although the answer says otherwise or was lost.
  var mayBeDone: Bool {
    guard !isUnsent, !isThrottling else { return false }
    return code == .noAnswer || code == .malformedAnswer || (status ?? 0) >= 500
  }

  /// EC2's message for an ENI whose detachment is not complete.
  var isStillAttached: Bool { code == .invalidParameterValue && message.contains("currently in use") }
}
