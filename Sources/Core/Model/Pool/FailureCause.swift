// SPDX-License-Identifier: Apache-2.0

/// Why a pod got no address: what stands in the pod's event behind the contract's sentence.
///
/// `description` is one line of plain text, without a full stop, that names what the operator can change.
package enum FailureCause: Error, Sendable, Hashable {
  /// The agent has not yet read what is attached.
  case notReady
  /// The agent ends; nothing new is asked of EC2.
  case shuttingDown
  /// DISABLE_NETWORK_RESOURCE_PROVISIONING is set.
  case provisioningOff
  /// The node is marked unschedulable and AWS_MANAGE_ENIS_NON_SCHEDULABLE is not set.
  case nodeCordoned
  /// As many addresses are in use as the node may have pods.
  case maxPodsReached(Int)
  /// Every ENI that the instance (or MAX_ENI) allows is attached and full.
  case eniLimitReached(attached: Int, limit: Int)
  /// No free address in the subnet; the next try is that far away.
  case subnetFull(SubnetID, retryIn: Duration)
  /// The subnet has no free block of the delegated size, and no single addresses either.
  case noFreePrefix(SubnetID, retryIn: Duration)
  /// EC2 refuses calls for their rate.
  case throttled(call: String, retryIn: Duration)
  /// The node's role lacks a permission, such as `ec2:AttachNetworkInterface`.
  case missingPermission(String, retryIn: Duration)
  /// A call failed for another reason, given as EC2 gave it.
  case callFailed(String, retryIn: Duration)
  /// Every address of the pool is in use or in cooldown.
  case onlyCooling(count: Int, freeIn: Duration)
  /// The wait ended with the caller's deadline.
  case deadline(waited: Duration, because: String)
  /// The caller went away, or the same attachment was deleted while it waited.
  case cancelled
  /// The request itself is wrong: an empty part of the key.
  case badRequest(String)
  /// More callers wait than the agent keeps.
  case tooManyWaiting(Int)
  /// The address could not be written down, so it was taken back.
  case checkpointNotWritten(String)
}

extension FailureCause: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notReady: "the agent is not ready"
    case .shuttingDown: "the agent is shutting down"
    case .provisioningOff: "no free address, and DISABLE_NETWORK_RESOURCE_PROVISIONING forbids asking EC2 for more"
    case .nodeCordoned: "no free address, and the node is cordoned (AWS_MANAGE_ENIS_NON_SCHEDULABLE is not set)"
    case .maxPodsReached(let limit): "all \(limit) addresses that the node's pod limit allows are in use"
    case .eniLimitReached(let attached, let limit):
      "ENI limit reached: \(attached) of \(limit) attached, and each is full"
    case .subnetFull(let subnet, let wait): "subnet \(subnet) is full, next try in \(wait.brief)"
    case .noFreePrefix(let subnet, let wait): "subnet \(subnet) has no free prefix, next try in \(wait.brief)"
    case .throttled(let call, let wait): "EC2 throttles \(call), next try in \(wait.brief)"
    case .missingPermission(let permission, let wait):
      "missing permission \(permission), next try in \(wait.brief)"
    case .callFailed(let text, let wait): "\(text), next try in \(wait.brief)"
    case .onlyCooling(let count, let wait): "all free addresses are in cooldown (\(count)), the next in \(wait.brief)"
    case .deadline(let waited, let reason): "no address within \(waited.brief): \(reason)"
    case .cancelled: "the request was withdrawn"
    case .badRequest(let what): "bad request: \(what)"
    case .tooManyWaiting(let count): "\(count) requests wait already"
    case .checkpointNotWritten(let why): "the checkpoint could not be written: \(why)"
    }
  }

  /// A short name with a fixed set of values, for a metric's label.
  package var label: String {
    switch self {
    case .notReady: "not_ready"
    case .shuttingDown: "shutting_down"
    case .provisioningOff: "provisioning_off"
    case .nodeCordoned: "node_cordoned"
    case .maxPodsReached: "max_pods"
    case .eniLimitReached: "eni_limit"
    case .subnetFull: "subnet_full"
    case .noFreePrefix: "no_free_prefix"
    case .throttled: "throttled"
    case .missingPermission: "missing_permission"
    case .callFailed: "call_failed"
    case .onlyCooling: "cooldown"
    case .deadline: "deadline"
    case .cancelled: "cancelled"
    case .badRequest: "bad_request"
    case .tooManyWaiting: "too_many_waiting"
    case .checkpointNotWritten: "checkpoint"
    }
  }
}
