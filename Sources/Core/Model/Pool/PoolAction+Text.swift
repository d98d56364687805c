// SPDX-License-Identifier: Apache-2.0

extension PoolAction: CustomStringConvertible {
  /// One log line: the action, its ENI and the amount.
  package var description: String {
    switch self {
    case .persist: "write the checkpoint"
    case .answerAdd(_, .assigned(let assignment)): "answer ADD of \(assignment.pod) with \(assignment.address)"
    case .answerAdd(_, .failed(let cause)): "refuse an ADD: \(cause)"
    case .answerDelete(_, .released(let assignment)): "answer DEL of \(assignment.pod)"
    case .answerDelete(_, .unknown): "answer DEL of an unknown pod"
    case .attachENI(_, let request): "attach an ENI: \(request)"
    case .assign(_, let eni, let kind, let count): "assign \(kind.text(count)) to \(eni)"
    case .unassign(_, let eni, let cidrs): "unassign \(cidrs.count) from \(eni)"
    case .freeENI(_, let eni): "free \(eni)"
    case .wireENI(_, let eni): "set up \(eni.id), device \(eni.device), \(eni.cidrs.count) addresses or prefixes"
    case .listENIs: "list the ENIs"
    case .wake: "wake later"
    }
  }
}

extension AttachRequest: CustomStringConvertible {
  package var description: String { "device \(device), \(kind.text(count)) in \(subnet)" }
}

extension CIDRKind {
  /// `3 addresses`, `1 prefix`
  fileprivate func text(_ count: Int) -> String {
    switch self {
    case .address: count == 1 ? "1 address" : "\(count) addresses"
    case .prefix: count == 1 ? "1 prefix" : "\(count) prefixes"
    }
  }
}

extension ActionFailure: CustomStringConvertible {
  /// For the log.
  package var description: String {
    var text = "\(fault)"
    if !record.isEmpty {
      // Other faults already carry EC2's message.
      if case .other = fault { text = record } else { text += ": \(record)" }
    }
    return mayBeDone ? "\(text) (EC2 may have done it anyway)" : text
  }
}

extension ActionFailure.Fault: CustomStringConvertible {
  package var description: String {
    switch self {
    case .throttled(let call): "EC2 throttles \(call)"
    case .unauthorized(let permission): "missing permission \(permission)"
    case .subnetFull: "the subnet has no free address"
    case .noFreePrefix: "the subnet has no free prefix"
    case .addressLimit: "EC2 reports more addresses on the ENI than the agent knows"
    case .attachmentLimit: "EC2 refuses to attach more ENIs to this instance"
    case .deviceTaken: "the device index is taken"
    case .notAssigned: "EC2 reports addresses as not assigned to the ENI"
    case .eniGone: "the ENI is gone"
    case .other(let text): text
    }
  }
}
