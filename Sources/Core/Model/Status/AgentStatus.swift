// SPDX-License-Identifier: Apache-2.0
//
// The content of `/v1/status`: written by the agent, read by `vpc-cni status` and `vpc-cni doctor`. One schema for
// both, in AgentStatus+JSON.swift. Times are seconds before the moment of the answer, so that no two clocks are
// compared.

/// The node's state as its agent knows it at one moment.
package struct AgentStatus: Sendable, Hashable {
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

  /// The maximum length of unbounded lists.
  package static let listLimit = 100
  /// The maximum magnitude of numbers: products and sums of a document's numbers cannot overflow.
  package static let largestNumber = 1 << 31

  package struct Process: Sendable, Hashable {
    package var version = ""
    package var commit = ""
    package var pid = 0
    package var upSeconds = 0
    package var instance = ""
    package var instanceType = ""
    package var zone = ""

    package init() {}
  }

  /// Addresses unless said otherwise.
  package struct Pool: Sendable, Hashable {
    package var total = 0
    package var assigned = 0
    package var free = 0
    package var cooling = 0
    package var pending = 0
    package var stray = 0
    package var waiting = 0
    package var usesPrefixes = false
    package var eniLimit = 0
    package var addressesPerENI = 0
    package var maxPods = 0
    /// `FailureCause.label`; nil if growth is not blocked.
    package var blockedCause: String?
    /// The same in words, as in a pod's event.
    package var blockedText: String?

    package init() {}
  }

  /// Warm targets against current addresses.
  package struct Targets: Sendable, Hashable {
    package var warmENI = 0
    package var warmIP = 0
    package var minimumIP = 0
    package var warmPrefix = 0
    /// Addresses missing for targets and waiters.
    package var shortage = 0
    /// Idle addresses or prefixes that can be unassigned.
    package var surplus = 0

    package init() {}
  }

  package struct ENI: Sendable, Hashable {
    package var id = ""
    package var device = 0
    package var card = 0
    package var subnet = ""
    package var address = ""
    package var mac = ""
    package var table = 0
    package var isManaged = true
    /// Its addresses may be assigned.
    package var isOpen = true
    package var isExcluded = false
    package var total = 0
    package var assigned = 0
    package var cooling = 0
    /// Free but not assignable: they are being unassigned, or the ENI is not ready.
    package var keptBack = 0
    /// In a different subnet than the ENIConfig's: its pods stay, new pods go elsewhere.
    package var isOutdated = false
    package var prefixes: [String] = []

    package init() {}

    /// Can be assigned to pods now.
    package var free: Int { max(total - assigned - cooling - keptBack, 0) }
    package var isPrimary: Bool { device == 0 && card == 0 }
  }

  package struct Pod: Sendable, Hashable {
    package var namespace = ""
    package var name = ""
    package var address = ""
    /// Empty if EC2 lists the address on no ENI.
    package var eni = ""
    package var device = 0
    package var ageSeconds = 0

    package init() {}
  }

  package struct Waiter: Sendable, Hashable {
    package var namespace = ""
    package var name = ""
    package var waitedSeconds = 0
    package var leftSeconds = 0

    package init() {}
  }

  package struct Subnet: Sendable, Hashable {
    package var id = ""
    /// As EC2 last reported; nil if it has not.
    package var free: Int?
    /// The age of that value; nil if there is none.
    package var freeSeconds: Int?
    package var isExcluded = false
    /// It was full, and is paused for now.
    package var isPaused = false
    /// It has no free prefix: single addresses for now.
    package var isFragmented = false

    package init() {}
  }

  package struct EC2: Sendable, Hashable {
    /// By action's name.
    package var calls: [Call] = []
    package var held: [Hold] = []
    /// Time since the last reconciliation with IMDS or EC2; nil before the start.
    package var reconciledSeconds: Int?

    package init() {}

    package struct Call: Sendable, Hashable {
      package var action = ""
      package var count = 0
      package var failed = 0
      package var throttled = 0
      /// EC2's error code of the last call; nil if it succeeded.
      package var lastError: String?
      package var lastSeconds = 0

      package init() {}
    }

    /// A kind of work that is delayed after failures.
    package struct Hold: Sendable, Hashable {
      /// `attach`, `assign`…
      package var work = ""
      package var because = ""
      /// Seconds until requests for pods are retried; 0: now.
      package var urgentSeconds = 0
      /// The same for warm targets and tidying.
      package var patientSeconds = 0

      package init() {}
    }
  }

  /// The node network: desired state and differences.
  package struct Kernel: Sendable, Hashable {
    /// `constant` or `per-pod`.
    package var scheme = ""
    /// Where the node's rules are: `iptables-legacy`, `iptables-nft` or `nftables`.
    package var iptables = ""
    /// Current differences from the desired state, in words, at most `listLimit`; nil if unknown.
    package var differences: [String]?
    /// Repairs since the start, and the time of the last one.
    package var repairs = 0
    package var lastRepairSeconds: Int?
    package var lastRepair = ""

    package init() {}
  }

  /// Settings in use that other components must match, and warnings.
  package struct Settings: Sendable, Hashable {
    package var warnings: [String] = []
    package var vethPrefix = ""
    package var eniMTU = 0
    package var podMTU = 0
    package var externalSNAT = false
    package var customNetworking = false
    package var checkpoint = ""

    package init() {}
  }
}
