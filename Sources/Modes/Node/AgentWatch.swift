// SPDX-License-Identifier: Apache-2.0
//
// The entrypoint's state machine while its agent runs. A value: events and time in, actions out.
//
//   starting ──probe says SERVING──▶ placing ──conflist stands──▶ serving
//      │                                │                            │
//      └────────────── SIGTERM ─────────┴────────────────────────────┤
//                                                                    ▼
//                                                                stopping ──8 s, or SIGTERM again──▶ SIGKILL
//   in every state: the agent has ended ──▶ exit with its status
//
// `starting` has no time limit: an agent that waits for IMDS or the xtables lock continues by itself, and the startup
// probe restarts a hanging one (docs/decisions/0028).

internal import VPCSystem

/// The agent's state as seen by its parent.
struct AgentWatch {
  enum Event: Equatable {
    /// Time has come to `nextLook`.
    case clock
    case probed(isServing: Bool)
    case conflistPlaced(Bool)
    case terminationAsked
    case agentEnded(CommandOutcome.Ending)
  }

  enum Action: Equatable {
    case probe
    case placeConflist
    case say(String)
    /// SIGTERM for the agent.
    case terminateAgent
    /// SIGKILL for the agent.
    case killAgent
    case exit(Int32)
  }

  private enum State: Equatable { case starting, placing, serving, stopping }

  private var state = State.starting
  /// Since the start of the agent; nil waits for a signal alone.
  private(set) var nextLook: Duration? = .zero
  private var probePause = AgentWatch.shortestProbePause
  private var nextWord = AgentWatch.shortestWordPause
  private var wordPause = AgentWatch.shortestWordPause

  /// Short, since a new node waits for it, and a probe is only one socket connect.
  private static let shortestProbePause = Duration.milliseconds(50)
  private static let longestProbePause = Duration.seconds(1)
  private static let shortestWordPause = Duration.seconds(2)
  private static let longestWordPause = Duration.seconds(30)
  private static let placePause = Duration.seconds(5)
  /// Longer than the agent's shutdown limit (5 s), shorter than the pod's grace period (10 s).
  private static let stopLimit = Duration.seconds(8)

  init() {}

  /// - Parameter now: since the start of the agent.
  mutating func handle(_ event: Event, at now: Duration) -> [Action] {
    switch event {
    case .agentEnded(let ending): return [.exit(AgentWatch.status(ending))]
    case .terminationAsked: return terminate(at: now)
    case .clock: return look(at: now)
    case .probed(let isServing): return probed(isServing, at: now)
    case .conflistPlaced(let isThere):
      guard state == .placing else { return [] }
      guard isThere else {
        nextLook = now + AgentWatch.placePause
        return []
      }
      state = .serving
      nextLook = nil
      return [
        .say("Successfully copied CNI plugin binary and config file."), .say("Foregrounding IPAM daemon ..."),
      ]
    }
  }

  private mutating func look(at now: Duration) -> [Action] {
    guard let due = nextLook, now >= due else { return [] }
    switch state {
    case .starting: return [.probe]
    case .placing: return [.placeConflist]
    case .serving: return []
    case .stopping:
      nextLook = nil
      return [.say("agent did not stop in time; killing it"), .killAgent]
    }
  }

  private mutating func probed(_ isServing: Bool, at now: Duration) -> [Action] {
    guard state == .starting else { return [] }
    if isServing {
      state = .placing
      nextLook = now
      return [.say("Copying config file ... "), .placeConflist]
    }
    nextLook = now + probePause
    probePause = min(probePause * 2, AgentWatch.longestProbePause)
    guard now >= nextWord else { return [] }
    wordPause = min(wordPause * 2, AgentWatch.longestWordPause)
    nextWord = now + wordPause
    return [.say("Retrying waiting for IPAM-D")]
  }

  private mutating func terminate(at now: Duration) -> [Action] {
    guard state != .stopping else {
      nextLook = nil
      return [.killAgent]
    }
    state = .stopping
    nextLook = now + AgentWatch.stopLimit
    return [.terminateAgent]
  }

  /// As in a shell: 128 plus the signal's number for an agent killed by a signal.
  private static func status(_ ending: CommandOutcome.Ending) -> Int32 {
    switch ending {
    case .exited(let status): status
    case .signalled(let number): 128 + number
    }
  }
}
