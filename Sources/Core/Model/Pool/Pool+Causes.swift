// SPDX-License-Identifier: Apache-2.0

/// Why there are no more addresses: each cause with its own name and remedy.
extension Pool {
  /// What prevents growth now; nil if nothing does.
  func blockingCause(_ now: PoolInstant) -> FailureCause? {
    if isShutDown { return .shuttingDown }
    if !isStarted { return .notReady }
    if !settings.provisions { return .provisioningOff }
    if !isSchedulable && !settings.managesUnschedulable { return .nodeCordoned }
    let inUse = book.open.assigned + book.aside.assigned
    if inUse >= settings.maxPods { return endedPodsCause ?? .maxPodsReached(settings.maxPods) }
    let places = places(now)
    for kind in places > 0 ? [ActionClass.attach, .assign] : [.assign] {
      if let cause = backoffs[kind.rawValue].cause(now) { return cause }
    }
    if let call = inFlight.values.lazy.compactMap(\.heldBy).first {
      return .throttled(call: call, retryIn: settings.timings.heldRetry)
    }
    if let noSubnet, places > 0 { return .noENIConfig(noSubnet) }
    if let cause = notReady(now) { return cause }
    for backoff in refusedENIs.values { if let cause = backoff.cause(now) { return cause } }
    if let (subnet, until) = pausedSubnets.min(by: { $0.value < $1.value }), until > now {
      let wait = until - now
      return settings.usesPrefixes && fallbackSubnets[subnet] != nil
        ? .noFreePrefix(subnet, retryIn: wait) : .subnetFull(subnet, retryIn: wait)
    }
    if let first = book.cooling.first, book.open.cooling > 0 {
      return .onlyCooling(count: book.open.cooling, freeIn: first.until - now)
    }
    guard settings.family == .ipv4, places <= 0 else { return nil }
    return endedPodsCause ?? limitCause(now)
  }

  private var endedPodsCause: FailureCause? { endedPods > 0 ? .endedPodsHoldAddresses(endedPods) : nil }

  /// An ENI with free addresses that could not be made ready on the node.
  private func notReady(_ now: PoolInstant) -> FailureCause? {
    for (slot, backoff) in unwired.sorted(by: { $0.key < $1.key }) {
      guard let fault = backoff.fault, let due = backoff.urgentAt, due > now else { continue }
      return .eniNotReady(book.enis[slot].id, "\(fault)", retryIn: due - now)
    }
    return nil
  }

  /// Why no ENI may be attached.
  private func limitCause(_ now: PoolInstant) -> FailureCause {
    let count = attached + attaching
    if let limit = attachmentLimit, count < settings.eniLimit {
      let wait = limit.backoff.urgentAt.map { max($0 - now, .zero) } ?? .zero
      return .attachmentLimit(
        attached: count, limit: settings.eniLimit, retryIn: wait, words: limit.backoff.words)
    }
    let idle = book.enis.indices.count { slot in
      let eni = book.enis[slot]
      return eni.takesPlace && eni.observation.card == settings.card && !eni.observation.isPrimary && !mayGrow(slot)
    }
    return idle > 0
      ? .enisTakeNoPods(attached: count, limit: settings.eniLimit, idle: idle)
      : .eniLimitReached(attached: count, limit: settings.eniLimit)
  }

  /// Why a waiter got no address in time. While addresses are being requested, it names that request.
  func lateness(_ now: PoolInstant) -> String {
    let isComing = pendingAddresses > 0 || book.awaiting.free > 0
    return switch blockingCause(now) {
    case nil: underWay(now)
    case .eniLimitReached where isComing, .enisTakeNoPods where isComing, .onlyCooling where isComing: underWay(now)
    case .some(let cause): cause.description
    }
  }

  /// The oldest action in progress that adds addresses, and its age.
  private func underWay(_ now: PoolInstant) -> String {
    let oldest = inFlight.values.filter { flight in
      if case .wire = flight.work { true } else { flight.supply > 0 }
    }.min { $0.since < $1.since }
    guard let oldest else { return "EC2 has not answered yet" }
    let time = (now - oldest.since).brief
    if case .wire(let slot, _) = oldest.work {
      return "\(book.enis[slot].id) is attached, but its interface is not ready after \(time)"
    }
    return "EC2 has not answered yet: \(text(of: oldest.work)), for \(time)"
  }
}

extension Backoff {
  /// EC2 refuses the calls for their rate.
  var isThrottled: Bool { if case .throttled = fault { true } else { false } }

  /// The failure whose backoff delays it; nil if it is not delayed.
  func cause(_ now: PoolInstant) -> FailureCause? {
    guard let fault, let urgentAt, urgentAt > now else { return nil }
    let wait = urgentAt - now
    return switch fault {
    case .throttled(let call): .throttled(call: call, retryIn: wait)
    case .unauthorized(let permission): .missingPermission(permission, retryIn: wait, words: words)
    case .subnetFull: .callFailed("the subnet is full", retryIn: wait)
    case .deviceTaken: .callFailed("EC2 reports device indexes as taken that no known ENI has", retryIn: wait)
    default: .callFailed(fault.description, retryIn: wait)
    }
  }
}
