// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCModel

/// An ADD whose answer is to come.
struct WaitingAdd {
  let key: AttachmentKey
  let pod: PodName
  let continuation: CheckedContinuation<AddAnswer, Never>
}

/// Logs each answer in one line.
enum PoolAnswer {
  case add(AttachmentKey, PodName, AddAnswer)
  case delete(DeleteAnswer)

  func log(to logger: Logger) {
    switch self {
    case .add(_, _, .assigned(let assignment)):
      logger.info("assigned", metadata: PoolAnswer.metadata(assignment))
    case .add(let key, let pod, .failed(let cause)):
      logger.warning(
        "no address for the pod", metadata: ["pod": "\(pod)", "container": "\(key.containerID)", "cause": "\(cause)"])
    case .delete(.released(let assignment)):
      logger.info("released", metadata: PoolAnswer.metadata(assignment))
    case .delete(.unknown):
      break  // normal for a repeated DEL
    }
  }

  private static func metadata(_ assignment: Assignment) -> Logger.Metadata {
    [
      "pod": "\(assignment.pod)", "container": "\(assignment.key.containerID)", "ip": "\(assignment.address)",
      "eni": "\(assignment.eni?.text ?? "none")",
    ]
  }
}
