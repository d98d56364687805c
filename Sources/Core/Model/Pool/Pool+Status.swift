// SPDX-License-Identifier: Apache-2.0

/// What `/v1/status` says beyond counts and ENIs.
extension Pool {
  /// Waiting ADDs, the longest first.
  package func waiters(now: PoolInstant) -> [AgentStatus.Waiter] {
    queue.keys.prefix(AgentStatus.listLimit).compactMap { key in
      guard let waiter = queue.first(of: key) else { return nil }
      var row = AgentStatus.Waiter()
      row.namespace = waiter.request.pod.namespace
      row.name = waiter.request.pod.name
      row.waitedSeconds = (now - waiter.since).wholeSeconds
      row.leftSeconds = (waiter.request.deadline - now).wholeSeconds
      return row
    }
  }

  /// Kinds of work that are delayed after failures.
  package func holds(now: PoolInstant) -> [AgentStatus.EC2.Hold] {
    ActionClass.allCases.compactMap { kind in
      let backoff = backoffs[kind.rawValue]
      guard let fault = backoff.fault, backoff.isHolding(now, urgent: false) || backoff.isHolding(now, urgent: true)
      else { return nil }
      var row = AgentStatus.EC2.Hold()
      row.work = "\(kind)"
      row.because = backoff.words.isEmpty ? fault.text : "\(fault.text): \(backoff.words)"
      row.urgentSeconds = backoff.urgentAt.map { max(($0 - now).wholeSeconds, 0) } ?? 0
      row.patientSeconds = backoff.patientAt.map { max(($0 - now).wholeSeconds, 0) } ?? 0
      return row
    }
  }

  /// How many ENIs EC2 allows on the instance, if fewer than its type allows.
  package var learntENILimit: Int? { attachmentLimit?.attached }

  /// Time since the last reconciliation; nil before the start.
  package func sinceReconciled(now: PoolInstant) -> Duration? { reconciledAt.map { now - $0 } }

  /// Work in progress, in words, the oldest first.
  package var workUnderWay: [String] {
    inFlight.sorted { $0.key < $1.key }.prefix(AgentStatus.listLimit).map { entry in
      let held = entry.value.heldBy.map { ", delayed by EC2 throttling of \($0)" } ?? ""
      return text(of: entry.value.work) + held
    }
  }

  func text(of work: InFlight.Work) -> String {
    let eni = { (slot: Int) in book.enis.indices.contains(slot) ? book.enis[slot].id.text : "an ENI" }
    switch work {
    case .attach(let request): return "attach an ENI with \(request.count) \(request.kind.plural) in \(request.subnet)"
    case .assign(let slot, _, let kind, let count): return "assign \(count) \(kind.plural) to \(eni(slot))"
    case .unassign(let slot, let cidrs): return "unassign \(cidrs.count) from \(eni(slot))"
    case .free(let slot): return "detach and delete \(eni(slot))"
    case .wire(let slot, _): return "set up \(eni(slot))"
    case .list: return "list ENIs"
    }
  }

  /// Warm targets against current addresses.
  package var targetStatus: AgentStatus.Targets {
    let targets = targets
    var status = AgentStatus.Targets()
    status.warmENI = settings.warmENITarget
    status.warmIP = settings.warmIPTarget
    status.minimumIP = settings.minimumIPTarget
    status.warmPrefix = settings.warmPrefixTarget
    status.shortage = targets.shortage
    status.surplus = targets.surplus
    return status
  }
}

extension CIDRKind {
  fileprivate var plural: String { self == .prefix ? "prefixes" : "addresses" }
}

extension ActionFailure.Fault {
  /// For a list: EC2's message, shortened.
  fileprivate var text: String {
    switch self {
    case .subnetFull: "the subnet is full"
    case .attachmentLimit: "EC2 refuses to attach more ENIs"
    default: description
    }
  }
}

extension Duration {
  /// Rounded down.
  package var wholeSeconds: Int { Int(components.seconds) }
}
