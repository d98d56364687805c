// SPDX-License-Identifier: Apache-2.0
//
// Frees the addresses of pods that are gone without a DEL: a chained plugin failed its DEL, which the runtime sends
// first, or the runtime gave up.
//
//   idle        until a pod's veth goes                                             no work
//     │ 15 s later, and once after startup
//     ▼
//   checking    attachments without a veth and without a route                      ──▶ idle if there are none
//     │ again every 15 s: a veth or a route resets the count
//     ▼
//   freeing     missing in every check for 45 s, without an ADD in that time        normal cooldown
//
// A living pod has its veth, or at least its route: the kernel removes both only with the pod's end of the pair. One
// check can be wrong (a list read while it changes, a veth being created); four in a row are not.

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCTransport

/// The results of the checks so far. A value; the caller passes the time.
struct AbandonmentEvidence: Sendable {
  /// How long a pod's host side must be missing.
  static let patience = Duration.seconds(45)
  /// How many checks must have missed it.
  static let looks = 3

  private struct Entry {
    let assignment: Assignment
    let since: ContinuousClock.Instant
    var looks = 1
  }

  private var entries: [AttachmentKey: Entry] = [:]

  /// A missing host side may come back.
  var isEmpty: Bool { entries.isEmpty }

  /// Adds one check.
  ///
  /// - Parameter missing: every attachment whose host side does not exist.
  /// - Returns: those whose pods are gone. They are forgotten here.
  mutating func look(_ missing: [Assignment], at now: ContinuousClock.Instant) -> [Assignment] {
    var next: [AttachmentKey: Entry] = [:]
    var gone: [Assignment] = []
    for assignment in missing {
      var entry = Entry(assignment: assignment, since: now)
      // If an attachment has another address by now, its count starts over.
      if let known = entries[assignment.key], known.assignment.isSame(as: assignment) {
        entry = known
        entry.looks += 1
      }
      if entry.looks >= AbandonmentEvidence.looks, entry.since.duration(to: now) >= AbandonmentEvidence.patience {
        gone.append(assignment)
      } else {
        next[assignment.key] = entry
      }
    }
    entries = next
    return gone
  }
}

/// The watch for pods that end without a DEL, from "ready" to shutdown.
struct AbandonedPods: Sendable {
  let network: NodeNetwork
  let pool: AddressPool
  let metrics: AgentMetrics
  /// Notified of each pod whose address was freed.
  let observer: PodObserver
  let time: TimeSource
  let logger: Logger

  /// Between two checks.
  static let interval = Duration.seconds(15)

  /// Runs until cancelled.
  func run() async {
    var evidence = AbandonmentEvidence()
    var streak = FailureStreak()
    repeat {
      repeat {
        guard (try? await time.sleep(AbandonedPods.interval)) != nil else { return }
        do {
          try await look(&evidence)
          if streak.succeeded() { logger.notice("pod interfaces can be listed again") }
        } catch {
          guard streak.failed() else { continue }
          logger.warning(
            "cannot list pod interfaces; reclaiming addresses of pods without a DEL is delayed",
            metadata: ["error": "\(CauseChain.text(error))"])
        }
      } while !evidence.isEmpty
    } while await network.podEndedBell.wait()
  }

  private func look(_ evidence: inout AbandonmentEvidence) async throws {
    // Assignments are read first: a pod that gets an address while the kernel is read is not included.
    let missing = try await network.withoutHostSide(await pool.pool.assignments)
    let gone = evidence.look(missing, at: time.now())
    await pool.tell(.endedPods(missing.count))
    for assignment in gone { await free(assignment) }
    if !gone.isEmpty { await pool.tell(.endedPods(missing.count - gone.count)) }
  }

  private func free(_ assignment: Assignment) async {
    guard let freed = await pool.reclaim(assignment, quiet: AbandonmentEvidence.patience) else { return }
    metrics.addressReclaimed()
    logger.warning(
      "pod is gone without a DEL (no interface, no route for 45 s); address reclaimed",
      metadata: [
        "pod": "\(freed.pod)", "container": "\(freed.key.containerID)", "ip": "\(freed.address)",
        "eni": "\(freed.eni?.text ?? "none")",
      ])
    observer.released(freed.pod, freed.address)
    guard let suffix = PodHolder(freed).vethSuffix else { return }
    // Per-pod rules may be left; a veth of that name belongs to a later sandbox.
    network.removeHostVethSoon(
      HostRemains(address: freed.address, vethSuffix: suffix, eniTable: freed.routeTable, deletesVeth: false))
  }
}

extension Assignment {
  /// Whether it is the same assignment of the same address.
  fileprivate func isSame(as other: Assignment) -> Bool {
    address == other.address && assignedUnixNanoseconds == other.assignedUnixNanoseconds
  }
}
