// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// Sets missing attributes of attached ENIs that no pod waits for: DeleteOnTermination and tags.
///
/// DeleteOnTermination is missing if an agent died between two calls; tags are missing on an ENI that somebody else
/// attached. Neither is fatal: a failure is logged once per ENI and retried with backoff.
extension NodeENIs {
  private static let longestWait = Duration.seconds(3600)

  /// Runs whenever a listing found something to do, until cancelled.
  func runCare() async {
    var failures = 0
    var told: Set<ENIID> = []
    while await directory.careBell.wait() {
      while await !care(&told) {
        failures += 1
        let wait = time.jittered(min(.seconds(30) * (1 << min(failures - 1, 7)), NodeENIs.longestWait))
        guard (try? await time.sleep(wait)) != nil else { return }
      }
      failures = 0
    }
  }

  /// One round over every ENI that lacks something.
  ///
  /// - Parameter told: the ENIs whose failure is already logged.
  /// - Returns: true if no ENI lacks anything.
  func care(_ told: inout Set<ENIID>) async -> Bool {
    for (eni, entry) in directory.entries.sorted(by: { $0.key.text < $1.key.text }) where entry.needsCare {
      do throws(EC2Error) {
        if entry.isUnmarked, let attachment = entry.attachmentID {
          try await ec2.setDeleteOnTermination(true, interface: eni, attachmentID: attachment)
          directory.update(eni) { $0.isUnmarked = false }
        }
        if !entry.missingTags.isEmpty {
          try await ec2.createTags(entry.missingTags, interface: eni)
          directory.update(eni) { $0.missingTags = [:] }
        }
        logger.notice(
          "ENI tags and attributes set", metadata: ["eni": "\(eni)", "tags": "\(entry.missingTags.keys.sorted())"])
      } catch {
        if error.isNotFound {
          directory.update(eni) {
            $0.isUnmarked = false
            $0.missingTags = [:]
          }
        } else if !Task.isCancelled, told.insert(eni).inserted {
          logger.warning(
            entry.isUnmarked
              ? "cannot set DeleteOnTermination on an ENI; will retry"
              : "cannot tag an ENI; will retry",
            metadata: ["eni": "\(eni)", "error": "\(CauseChain.text(error))"])
        }
      }
      if Task.isCancelled { return false }
    }
    return !directory.entries.values.contains(where: \.needsCare)
  }
}
