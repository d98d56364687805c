// SPDX-License-Identifier: Apache-2.0

extension AgentStatus {
  package struct ENI: StatusObject, Sendable, Hashable {
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

    mutating func fields(_ field: inout StatusFields) {
      field("id", &id)
      field("device", &device)
      field("card", &card)
      field("subnet", &subnet)
      field("address", &address)
      field("mac", &mac)
      field("table", &table)
      field("isManaged", &isManaged)
      field("isOpen", &isOpen)
      field("isExcluded", &isExcluded)
      field("total", &total)
      field("assigned", &assigned)
      field("cooling", &cooling)
      field("keptBack", &keptBack)
      field("isOutdated", &isOutdated)
      field("prefixes", &prefixes)
    }

    /// Can be assigned to pods now.
    package var free: Int { max(total - assigned - cooling - keptBack, 0) }
    package var isPrimary: Bool { device == 0 && card == 0 }
  }

  package struct Subnet: StatusObject, Sendable, Hashable {
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

    mutating func fields(_ field: inout StatusFields) {
      field("id", &id)
      field("free", &free)
      field("freeSeconds", &freeSeconds)
      field("isExcluded", &isExcluded)
      field("isPaused", &isPaused)
      field("isFragmented", &isFragmented)
    }
  }

  package struct EC2: StatusObject, Sendable, Hashable {
    /// By action's name.
    package var calls: [Call] = []
    package var held: [Hold] = []
    /// Time since the last reconciliation with IMDS or EC2; nil before the start.
    package var reconciledSeconds: Int?

    package init() {}

    mutating func fields(_ field: inout StatusFields) {
      field("calls", &calls)
      field("held", &held)
      field("reconciledSeconds", &reconciledSeconds)
    }

    package struct Call: StatusObject, Sendable, Hashable {
      package var action = ""
      package var count = 0
      package var failed = 0
      package var throttled = 0
      /// EC2's error code of the last call; nil if it succeeded.
      package var lastError: String?
      package var lastSeconds = 0

      package init() {}

      mutating func fields(_ field: inout StatusFields) {
        field("action", &action)
        field("count", &count)
        field("failed", &failed)
        field("throttled", &throttled)
        field("lastError", &lastError)
        field("lastSeconds", &lastSeconds)
      }
    }

    /// A kind of work that is delayed after failures.
    package struct Hold: StatusObject, Sendable, Hashable {
      /// `attach`, `assign`…
      package var work = ""
      package var because = ""
      /// Seconds until requests for pods are retried; 0: now.
      package var urgentSeconds = 0
      /// The same for warm targets and tidying.
      package var patientSeconds = 0

      package init() {}

      mutating func fields(_ field: inout StatusFields) {
        field("work", &work)
        field("because", &because)
        field("urgentSeconds", &urgentSeconds)
        field("patientSeconds", &patientSeconds)
      }
    }
  }

  /// The node network: desired state and differences.
  package struct Kernel: StatusObject, Sendable, Hashable {
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

    mutating func fields(_ field: inout StatusFields) {
      field("scheme", &scheme)
      field("iptables", &iptables)
      field("differences", &differences)
      field("repairs", &repairs)
      field("lastRepairSeconds", &lastRepairSeconds)
      field("lastRepair", &lastRepair)
    }
  }
}
