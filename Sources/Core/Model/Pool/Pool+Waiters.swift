// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// ADD and DEL: assigns addresses, queues and refuses requests.
extension Pool {
  mutating func add(_ request: AddRequest, _ time: PoolTime, _ batch: inout Batch) {
    let refuse = { (cause: FailureCause, batch: inout Batch) in
      batch.answer(.answerAdd(request.waiter, .failed(cause)))
    }
    guard request.key.isComplete else {
      return refuse(.badRequest("network name, container id and interface name must not be empty"), &batch)
    }
    turnedAway.remove(request.pod)
    guard isStarted else { return refuse(isShutDown ? .shuttingDown : .notReady, &batch) }
    if let allocation = book.allocations[request.key] {
      book.allocations[request.key]?.askedAt = time.instant
      let assignment = assignment(request.key, allocation, isNew: false)
      return batch.answer(.answerAdd(request.waiter, .assigned(assignment)))
    }
    if queue.isEmpty, let assignment = assign(request, time) {
      batch.persist()
      return batch.answer(.answerAdd(request.waiter, .assigned(assignment)))
    }
    guard queue.requests < settings.timings.maximumWaiters else {
      return refuse(.tooManyWaiting(queue.requests), &batch)
    }
    queue.append(request, now: time.instant)
  }

  private mutating func assign(_ request: AddRequest, _ time: PoolTime) -> Assignment? {
    let allocation = book.assign(
      request.key, pod: request.pod, unixNanoseconds: time.unixNanoseconds,
      interfacesCount: request.interfacesCount, now: time.instant)
    return allocation.map { assignment(request.key, $0, isNew: true) }
  }

  func assignment(_ key: AttachmentKey, _ allocation: AddressBook.Allocation, isNew: Bool) -> Assignment {
    let slot = allocation.cidr < 0 ? nil : book.cidrs[allocation.cidr].slot
    let eni = slot.map { book.enis[$0].observation }
    return Assignment(
      key: key, pod: allocation.pod, address: allocation.address, eni: eni?.id, device: eni?.device ?? 0,
      card: eni?.card ?? settings.card, routeTable: eni?.table ?? .main,
      assignedUnixNanoseconds: allocation.unixNanoseconds, interfacesCount: allocation.interfacesCount, isNew: isNew)
  }

  /// Assigns free addresses to waiting requests, in order.
  mutating func serve(_ time: PoolTime, _ batch: inout Batch) {
    while let key = queue.keys.first, let waiter = queue.first(of: key), let assignment = assign(waiter.request, time) {
      batch.persist()
      for waiter in queue.remove(key) {
        batch.answer(.answerAdd(waiter.request.waiter, .assigned(assignment)))
      }
    }
  }

  mutating func cancel(_ id: WaiterID, _ batch: inout Batch) {
    guard queue.remove(id) != nil else { return }
    batch.answer(.answerAdd(id, .failed(.cancelled)))
  }

  mutating func delete(_ key: AttachmentKey, _ id: WaiterID, _ now: PoolInstant, _ batch: inout Batch) {
    if !queue.isEmpty {
      for waiter in queue.remove(key) {
        batch.answer(.answerAdd(waiter.request.waiter, .failed(.cancelled)))
      }
    }
    if release(key, id, now, &batch) || release(.migrated(containerID: key.containerID), id, now, &batch) { return }
    batch.answer(.answerDelete(id, .unknown))
  }

  private mutating func release(
    _ key: AttachmentKey, _ id: WaiterID, _ now: PoolInstant, _ batch: inout Batch
  ) -> Bool {
    // Without a cooldown the address is free at once: a waiting request gets it.
    let until = settings.cooldown > .zero ? now + settings.cooldown : nil
    guard let allocation = book.release(key, until: until) else { return false }
    tidy(from: until ?? now)
    batch.persist()
    batch.answer(.answerDelete(id, .released(assignment(key, allocation, isNew: false))))
    return true
  }

  /// Releases addresses that were assigned but not written to the checkpoint. No pod has used them: they need no
  /// cooldown.
  mutating func undo(_ unsent: [UnsentAnswer], _ reason: String, _ batch: inout Batch) {
    for answer in unsent where answer.assignment.isNew {
      guard book.allocations[answer.assignment.key]?.address == answer.assignment.address else { continue }
      _ = book.release(answer.assignment.key, until: nil)
    }
    for answer in unsent {
      if let allocation = book.allocations[answer.assignment.key] {
        let assignment = assignment(answer.assignment.key, allocation, isNew: false)
        batch.answer(.answerAdd(answer.waiter, .assigned(assignment)))
      } else {
        batch.answer(.answerAdd(answer.waiter, .failed(.checkpointNotWritten(reason))))
      }
    }
  }

  /// Refuses requests whose deadline has passed, and those that cannot be served in time.
  mutating func refuse(_ now: PoolInstant, _ batch: inout Batch) {
    for waiter in queue.removeExpired(now) {
      let cause = FailureCause.deadline(waited: now - waiter.since, because: lateness(now))
      turnedAway.note(waiter.request.pod, now)
      batch.answer(.answerAdd(waiter.request.waiter, .failed(cause)))
    }
    guard let earliest = queue.earliestDeadline, supply(by: earliest, now) < queue.count else { return }
    var kept = 0
    for key in Array(queue.keys) {
      if let deadline = queue.latestDeadline(of: key), kept < supply(by: deadline, now) {
        kept += 1
        continue
      }
      let cause = refusal(now)
      for waiter in queue.remove(key) {
        turnedAway.note(waiter.request.pod, now)
        batch.answer(.answerAdd(waiter.request.waiter, .failed(cause)))
      }
    }
  }

  /// Why a waiter cannot get an address, apart from those requested for earlier waiters.
  private func refusal(_ now: PoolInstant) -> FailureCause {
    let promised = book.open.assigned + book.aside.assigned + pendingAddresses + book.awaiting.free
    if mayProvision, promised >= settings.maxPods { return .maxPodsReached(settings.maxPods) }
    return blockingCause(now) ?? .callFailed("no address available", retryIn: .zero)
  }

  /// Addresses that may become free before an instant: requested, in cooldown, or still to request.
  private func supply(by deadline: PoolInstant, _ now: PoolInstant) -> Int {
    if isShutDown { return 0 }
    let cooling = min(book.open.cooling, coolingEnds(by: deadline))
    let underWay = pendingAddresses + book.awaiting.free + withheld
    guard mayProvision else { return cooling + underWay }
    let inUse = book.open.total - book.open.cooling + book.aside.assigned - withheld
    let allowed = max(settings.maxPods - inUse - underWay, 0)
    return cooling + underWay + min(askable(by: deadline, now), allowed)
  }

  /// Cooldowns are ordered by their end.
  private func coolingEnds(by deadline: PoolInstant) -> Int {
    var low = 0
    var high = book.cooling.count
    while low < high {
      let middle = (low + high) / 2
      if book.cooling[middle].until <= deadline { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
