// SPDX-License-Identifier: Apache-2.0

/// Why a pod got no address: the text in the pod's event after the contract's sentence.
///
/// `description` is one line of plain text without a full stop: the cause with its values, then, after a semicolon, the
/// remedy.
package enum FailureCause: Error, Sendable, Hashable {
  /// The agent has not listed the node's ENIs yet.
  case notReady
  /// The agent is shutting down; it makes no new EC2 calls.
  case shuttingDown
  /// DISABLE_NETWORK_RESOURCE_PROVISIONING is set.
  case provisioningOff
  /// The node is marked unschedulable and AWS_MANAGE_ENIS_NON_SCHEDULABLE is not set.
  case nodeCordoned
  /// The number of addresses in use equals max pods.
  case maxPodsReached(Int)
  /// Every ENI that the instance (or MAX_ENI) allows is attached and full.
  case eniLimitReached(attached: Int, limit: Int)
  /// The same, but some of the ENIs take no pods: unmanaged, excluded or a trunk. The others are full.
  case enisTakeNoPods(attached: Int, limit: Int, idle: Int)
  /// There is no room for more addresses, and pods that ended without a DEL hold some; they are freed soon.
  case endedPodsHoldAddresses(Int)
  /// EC2 refuses to attach more ENIs although the type allows more: on many Nitro types volumes share the slots.
  case attachmentLimit(attached: Int, limit: Int, retryIn: Duration, words: String)
  /// An ENI with free addresses is attached but not usable yet, with the reason, such as a missing interface.
  case eniNotReady(ENIID, String, retryIn: Duration)
  /// Custom networking: the subnet for new ENIs is unknown, with the reason.
  case noENIConfig(String)
  /// No free address in the subnet; retried after `retryIn`.
  case subnetFull(SubnetID, retryIn: Duration)
  /// The subnet has no free block of the delegated size, and no single addresses either.
  case noFreePrefix(SubnetID, retryIn: Duration)
  /// EC2 throttles the call.
  case throttled(call: String, retryIn: Duration)
  /// EC2 denies the node's role an action, such as `ec2:AttachNetworkInterface`; with EC2's message.
  case missingPermission(String, retryIn: Duration, words: String = "")
  /// A call failed for another reason, as EC2 reported it.
  case callFailed(String, retryIn: Duration)
  /// Every address of the pool is in use or in cooldown.
  case onlyCooling(count: Int, freeIn: Duration)
  /// The wait ended with the caller's deadline.
  case deadline(waited: Duration, because: String)
  /// The caller went away, or the same attachment was deleted while it waited.
  case cancelled
  /// The request is invalid: a part of the key is empty.
  case badRequest(String)
  /// The queue of waiting callers is full.
  case tooManyWaiting(Int)
  /// The checkpoint could not be written, so the address was released.
  case checkpointNotWritten(String)
}

extension FailureCause: CustomStringConvertible {
  package var description: String {
    guard let remedy else { return what }
    // EC2's message comes last: it may be truncated.
    return words.isEmpty ? "\(what); \(remedy)" : "\(what); \(remedy); EC2 says: \(words)"
  }

  /// EC2's message, if it says more than the cause.
  private var words: String {
    switch self {
    case .attachmentLimit(_, _, _, let words), .missingPermission(_, _, let words): words
    default: ""
    }
  }

  /// The remedy, in few words; nil if there is none or the cause already says it.
  private var remedy: String? {
    switch self {
    case .notReady: "kubelet retries; the agent's log says what it is waiting for"
    case .shuttingDown: "kubelet retries once the agent runs again"
    case .provisioningOff: "assign addresses by other means and restart the agent, or unset the variable"
    case .nodeCordoned: "uncordon the node, or set the variable"
    case .maxPodsReached: "run fewer pods on this node (kubelet --max-pods), or add nodes"
    case .eniLimitReached:
      "run fewer pods on this node (--max-pods), use a larger instance type, raise MAX_ENI, or set ENABLE_PREFIX_DELEGATION"
    case .enisTakeNoPods:
      "aws-cni status marks them; detach them, or make them usable for pods (tags node.k8s.amazonaws.com/no_manage and "
        + "kubernetes.io/role/cni, MANAGE_UNTAGGED_ENI)"
    case .endedPodsHoldAddresses:
      "kubelet retries; if it happens again, look in the runtime's log for the plugin whose DEL fails"
    case .attachmentLimit:
      "EBS volumes and ENIs share the attachment slots of many Nitro types: use fewer volumes on this node, a larger "
        + "instance type, or ENABLE_PREFIX_DELEGATION"
    case .eniNotReady: "check its interface on the node (ip link, dmesg); the agent's log has each attempt"
    case .noENIConfig: "correct the ENIConfig, or the node's label or annotation that names it"
    case .subnetFull:
      "free addresses there (leaked ENIs, smaller warm targets), or tag a larger subnet kubernetes.io/role/cni=1"
    case .noFreePrefix: "create a subnet CIDR reservation for prefixes, or use a new subnet"
    case .throttled: "find the caller in CloudTrail, or ask AWS for a higher rate limit"
    case .missingPermission(_, _, let words):
      // Adding the action to the role does not help if another policy denies it.
      words.contains("explicit deny")
        ? "remove the deny from the policy that EC2 names"
        : "add it to the role of the node or of the service account aws-node"
    case .callFailed: "run aws-cni doctor on the node"
    case .onlyCooling: "wait, or lower IP_COOLDOWN_PERIOD"
    case .tooManyWaiting: "aws-cni status on the node shows the waiting pods and the cause"
    case .checkpointNotWritten: "free space there, or make it writable"
    case .deadline, .cancelled, .badRequest: nil
    }
  }

  private var what: String {
    switch self {
    case .notReady: "the agent is not ready: it has not listed the node's ENIs yet"
    case .shuttingDown: "the agent is shutting down"
    case .provisioningOff: "no free address, and DISABLE_NETWORK_RESOURCE_PROVISIONING prevents growth"
    case .nodeCordoned: "no free address, and the node is cordoned (AWS_MANAGE_ENIS_NON_SCHEDULABLE is not set)"
    case .maxPodsReached(let limit): "all \(limit) addresses allowed by max pods are in use"
    case .eniLimitReached(let attached, let limit):
      "ENI limit reached: \(attached) of \(limit) attached, all full"
    case .enisTakeNoPods(let attached, let limit, let idle):
      "ENI limit reached: \(attached) of \(limit) attached, \(idle) not usable for pods, the others full"
    case .endedPodsHoldAddresses(let count):
      "no room for more addresses, and \(count) are held by pods that ended without a DEL; they are freed within a minute"
    case .attachmentLimit(let attached, let limit, let wait, _):
      "EC2 refuses to attach more ENIs (AttachmentLimitExceeded): \(attached) attached, the instance type allows "
        + "\(limit), next try in \(wait.brief)"
    case .eniNotReady(let eni, let why, let wait):
      "\(eni) is attached but not usable yet: \(why), next try in \(wait.brief)"
    case .noENIConfig(let why): "cannot create an ENI: \(why)"
    case .subnetFull(let subnet, let wait): "subnet \(subnet) is full, next try in \(wait.brief)"
    case .noFreePrefix(let subnet, let wait): "subnet \(subnet) has no free prefix, next try in \(wait.brief)"
    case .throttled(let call, let wait): "EC2 throttles \(call), next try in \(wait.brief)"
    case .missingPermission(let permission, let wait, _):
      "missing permission \(permission), next try in \(wait.brief)"
    case .callFailed(let text, let wait): "\(text), next try in \(wait.brief)"
    case .onlyCooling(let count, let wait):
      "all free addresses are in cooldown (\(count)), next one free in \(wait.brief)"
    case .deadline(let waited, let reason): "no address within \(waited.brief): \(reason)"
    case .cancelled: "the request was cancelled"
    case .badRequest(let what): "bad request: \(what)"
    case .tooManyWaiting(let count): "\(count) requests are already waiting, the queue is full"
    case .checkpointNotWritten(let why): "cannot write the checkpoint: \(why)"
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
    case .enisTakeNoPods: "enis_take_no_pods"
    case .endedPodsHoldAddresses: "ended_pods_hold_addresses"
    case .attachmentLimit: "attachment_limit"
    case .eniNotReady: "eni_not_ready"
    case .noENIConfig: "no_eni_config"
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
