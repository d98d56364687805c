// SPDX-License-Identifier: Apache-2.0

internal import CCurl
internal import Synchronization
internal import VPCModel
internal import VPCSystem

/// The thread that owns a libcurl multi handle and every transfer on it.
///
///     idle ──submit──▶ running ──stop──▶ stopped
///       └──submit, libcurl missing──▶ idle (the request fails; the next one tries again)
///
/// Other threads only add work to `state` and wake the thread; their only libcurl call is `curl_multi_wakeup`, which is
/// allowed from any thread, and only under the lock that the thread takes before it frees the handle.
final class CurlLoop: Sendable {
  private enum Phase {
    case idle
    case running(CurlMulti)
    case stopped
  }

  private struct State {
    var phase = Phase.idle
    var incoming: [CurlTransfer] = []
    var cancelled: [UInt64] = []
    var resumed: [UInt64] = []
    /// Transfers submitted and not finished.
    var live: Set<UInt64> = []
    var lastTicket: UInt64 = 0
  }

  private let settings: CurlTransport.Settings
  private let state = Mutex(State())

  init(settings: CurlTransport.Settings) { self.settings = settings }

  /// A number that names one request for `cancel`.
  func ticket() -> UInt64 {
    state.withLock { state in
      state.lastTicket += 1
      return state.lastTicket
    }
  }

  /// Passes a transfer to the thread, and starts the thread if needed. The transfer is finished exactly once.
  func submit(_ transfer: CurlTransfer) {
    if let error = transfer.validate() { return transfer.finish(.failure(error)) }
    let refusal = state.withLock { state -> HTTPError? in
      if case .stopped = state.phase { return transfer.error(.closed, "the transport is closed") }
      guard state.live.count < settings.maximumRequests else {
        let text = "\(settings.maximumRequests) requests are already waiting or in progress"
        return transfer.error(.overloaded, text, isTransient: true)
      }
      if case .idle = state.phase {
        switch startThread() {
        case .success(let multi): state.phase = .running(multi)
        case .failure(let refusal): return transfer.error(refusal.code, refusal.reason)
        }
      }
      state.live.insert(transfer.id)
      state.incoming.append(transfer)
      wake(state.phase)
      return nil
    }
    if let refusal { transfer.finish(.failure(refusal)) }
  }

  /// Ends the transfer of that ticket, if it has not ended.
  func cancel(_ ticket: UInt64) {
    state.withLock { state in
      guard state.live.contains(ticket) else { return }
      state.cancelled.append(ticket)
      wake(state.phase)
    }
  }

  /// Resumes a paused stream, if it has not ended.
  func resume(_ ticket: UInt64) {
    state.withLock { state in
      guard state.live.contains(ticket) else { return }
      state.resumed.append(ticket)
      wake(state.phase)
    }
  }

  /// Ends the thread; transfers not finished fail with `.closed`.
  func stop() {
    state.withLock { state in
      wake(state.phase)
      state.phase = .stopped
    }
  }

  private func wake(_ phase: Phase) {
    if case .running(let multi) = phase { multi.wake() }
  }

  // MARK: the thread

  private struct StartFailure: Error {
    let code: HTTPError.Code
    let reason: String
  }

  private func startThread() -> Result<CurlMulti, StartFailure> {
    if let reason = ccurl_load() {
      return .failure(StartFailure(code: .libraryMissing, reason: String(cString: reason)))
    }
    guard let multi = CurlMulti(connectionsPerHost: settings.connectionsPerHost) else {
      return .failure(StartFailure(code: .other, reason: "no memory for a libcurl multi handle"))
    }
    do throws(SystemCallError) {
      try SystemThread.start(name: "curl", stackSize: 512 << 10) { self.run(multi) }
      return .success(multi)
    } catch {
      multi.free()
      return .failure(StartFailure(code: .other, reason: "\(error)"))
    }
  }

  private struct Work {
    var incoming: [CurlTransfer]
    var cancelled: [UInt64]
    var resumed: [UInt64]
    var isStopped: Bool
  }

  private func takeWork() -> Work {
    state.withLock { state in
      defer {
        state.incoming = []
        state.cancelled = []
        state.resumed = []
      }
      var isStopped = false
      if case .stopped = state.phase { isStopped = true }
      return Work(incoming: state.incoming, cancelled: state.cancelled, resumed: state.resumed, isStopped: isStopped)
    }
  }

  private func run(_ multi: CurlMulti) {
    var active: [UInt64: CurlTransfer] = [:]
    while true {
      let work = takeWork()
      for transfer in work.incoming { start(transfer, on: multi, &active) }
      for ticket in work.cancelled {
        guard let transfer = active[ticket] else { continue }
        end(
          transfer, .failure(transfer.error(.cancelled, "cancelled", isUnsent: transfer.isUnsent)), on: multi, &active)
      }
      if work.isStopped { break }
      for ticket in work.resumed { active[ticket]?.resume() }
      multi.perform()
      while let (id, code) = multi.nextDone() {
        guard let transfer = active[id] else { continue }
        end(transfer, transfer.result(code), on: multi, &active)
      }
      let now = ContinuousClock.now
      for transfer in active.values.filter(\.isStream) {
        if let error = transfer.overdue(now) { end(transfer, .failure(error), on: multi, &active) }
      }
      multi.wait(milliseconds: CurlLoop.pause(active, now))
    }
    for transfer in active.values {
      multi.remove(transfer)
      transfer.finish(.failure(transfer.error(.closed, "the transport was closed", isUnsent: transfer.isUnsent)))
    }
    // Since the phase is `.stopped`, no thread wakes the handle any more.
    multi.free()
  }

  /// Nothing in progress, or only streams: only `wake`, data or a stream's limit ends the wait. The maximum wait limits
  /// the effect of a lost wake-up.
  private static func pause(_ active: [UInt64: CurlTransfer], _ now: ContinuousClock.Instant) -> Int32 {
    var pause: Int32 = 60_000
    for transfer in active.values {
      guard transfer.isStream else { return 1_000 }
      guard let look = transfer.lookAt else { continue }
      pause = min(pause, now.duration(to: look).pollMilliseconds)
    }
    return pause
  }

  private func start(_ transfer: CurlTransfer, on multi: CurlMulti, _ active: inout [UInt64: CurlTransfer]) {
    if let error = transfer.prepare(settings) ?? multi.add(transfer) {
      end(transfer, .failure(error), on: nil, &active)
    } else {
      active[transfer.id] = transfer
    }
  }

  private func end(
    _ transfer: CurlTransfer, _ result: Result<HTTPResponse, HTTPError>, on multi: CurlMulti?,
    _ active: inout [UInt64: CurlTransfer]
  ) {
    multi?.remove(transfer)
    active[transfer.id] = nil
    _ = state.withLock { $0.live.remove(transfer.id) }
    transfer.finish(result)
  }
}
