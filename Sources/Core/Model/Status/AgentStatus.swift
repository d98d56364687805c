// SPDX-License-Identifier: Apache-2.0
//
// The content of `/v1/status`: written by the agent, read by `vpc-cni status` and `vpc-cni doctor`. One schema for
// both: `fields` names each member once. Times are seconds before the moment of the answer, so that no two clocks are
// compared.

/// The node's state as its agent knows it at one moment.
package struct AgentStatus: StatusObject, Sendable, Hashable {
  package var agent = Process()
  package var pool = Pool()
  package var targets = Targets()
  /// By card and device.
  package var enis: [ENI] = []
  /// By address.
  package var pods: [Pod] = []
  /// The longest first, at most `listLimit`.
  package var waiters: [Waiter] = []
  /// Work in progress, in words, at most `listLimit`.
  package var actions: [String] = []
  package var subnets: [Subnet] = []
  package var ec2 = EC2()
  package var kernel = Kernel()
  /// Nil if the agent does not report it.
  package var cluster: Cluster?
  package var settings = Settings()

  package init() {}

  mutating func fields(_ field: inout StatusFields) {
    var schema = AgentStatus.schema
    field("schema", &schema)
    field("agent", &agent)
    field("pool", &pool)
    field("targets", &targets)
    field("enis", &enis)
    field("pods", &pods)
    field("waiters", &waiters)
    field("actions", &actions)
    field("subnets", &subnets)
    field("ec2", &ec2)
    field("kernel", &kernel)
    field("cluster", &cluster)
    field("settings", &settings)
  }

  /// The schema number of this document; an incompatible change raises it.
  package static let schema = 1
  /// The maximum length of unbounded lists.
  package static let listLimit = 100
  /// The maximum magnitude of numbers: products and sums of a document's numbers cannot overflow.
  package static let largestNumber = 1 << 31

  package struct Process: StatusObject, Sendable, Hashable {
    package var version = ""
    package var commit = ""
    package var pid = 0
    package var upSeconds = 0
    package var instance = ""
    package var instanceType = ""
    package var zone = ""

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("version", &version)
      field("commit", &commit)
      field("pid", &pid)
      field("upSeconds", &upSeconds)
      field("instance", &instance)
      field("instanceType", &instanceType)
      field("zone", &zone)
    }
  }

  /// Addresses unless said otherwise.
  package struct Pool: StatusObject, Sendable, Hashable {
    package var total = 0
    package var assigned = 0
    package var free = 0
    package var cooling = 0
    package var pending = 0
    package var stray = 0
    package var waiting = 0
    package var usesPrefixes = false
    /// One prefix serves all pods: there are no warm targets.
    package var isIPv6 = false
    package var eniLimit = 0
    package var addressesPerENI = 0
    package var maxPods = 0
    /// `FailureCause.label`; nil if growth is not blocked.
    package var blockedCause: String?
    /// The same in words, as in a pod's event.
    package var blockedText: String?

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("total", &total)
      field("assigned", &assigned)
      field("free", &free)
      field("cooling", &cooling)
      field("pending", &pending)
      field("stray", &stray)
      field("waiting", &waiting)
      field("usesPrefixes", &usesPrefixes)
      field("isIPv6", &isIPv6)
      field("eniLimit", &eniLimit)
      field("addressesPerENI", &addressesPerENI)
      field("maxPods", &maxPods)
      field("blockedCause", &blockedCause)
      field("blockedText", &blockedText)
    }
  }

  /// Warm targets against current addresses.
  package struct Targets: StatusObject, Sendable, Hashable {
    package var warmENI = 0
    package var warmIP = 0
    package var minimumIP = 0
    package var warmPrefix = 0
    /// Addresses missing for targets and waiters.
    package var shortage = 0
    /// Idle addresses or prefixes that can be unassigned.
    package var surplus = 0

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("warmENI", &warmENI)
      field("warmIP", &warmIP)
      field("minimumIP", &minimumIP)
      field("warmPrefix", &warmPrefix)
      field("shortage", &shortage)
      field("surplus", &surplus)
    }
  }

  package struct Pod: StatusObject, Sendable, Hashable {
    package var namespace = ""
    package var name = ""
    package var address = ""
    /// Empty if EC2 lists the address on no ENI.
    package var eni = ""
    package var device = 0
    package var ageSeconds = 0

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("namespace", &namespace)
      field("name", &name)
      field("address", &address)
      field("eni", &eni)
      field("device", &device)
      field("ageSeconds", &ageSeconds)
    }
  }

  package struct Waiter: StatusObject, Sendable, Hashable {
    package var namespace = ""
    package var name = ""
    package var waitedSeconds = 0
    package var leftSeconds = 0

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("namespace", &namespace)
      field("name", &name)
      field("waitedSeconds", &waitedSeconds)
      field("leftSeconds", &leftSeconds)
    }
  }

  /// Settings in use that other components must match, and warnings.
  package struct Settings: StatusObject, Sendable, Hashable {
    package var warnings: [String] = []
    package var vethPrefix = ""
    package var eniMTU = 0
    package var podMTU = 0
    package var externalSNAT = false
    package var customNetworking = false
    package var checkpoint = ""

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("warnings", &warnings)
      field("vethPrefix", &vethPrefix)
      field("eniMTU", &eniMTU)
      field("podMTU", &podMTU)
      field("externalSNAT", &externalSNAT)
      field("customNetworking", &customNetworking)
      field("checkpoint", &checkpoint)
    }
  }
}
