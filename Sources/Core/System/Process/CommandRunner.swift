// SPDX-License-Identifier: Apache-2.0
internal import Glibc
package import VPCModel

/// A program to run, and its limits.
package struct Command: Sendable, Hashable, CustomStringConvertible {
  /// A name to look for in the runner's own path list, or an absolute path.
  package var program: String
  package var arguments: [String]
  /// What the program reads on its standard input.
  package var input: [UInt8]
  /// The time limit.
  package var deadline: Duration
  /// How many bytes of each of its two outputs are kept. A program that writes more is stopped.
  package var outputLimit: Int
  /// A descriptor that the program has too, until it ends: a lock on it outlives this process. Nil for none.
  package var heldDescriptor: Int32?

  package init(
    _ program: String, _ arguments: [String] = [], input: [UInt8] = [], deadline: Duration = .seconds(30),
    outputLimit: Int = 16 << 20
  ) {
    self.program = program
    self.arguments = arguments
    self.input = input
    self.deadline = deadline
    self.outputLimit = outputLimit
  }

  /// The words as one line, without the input.
  package var description: String { ([program] + arguments).joined(separator: " ") }
}

/// How a program exited. A failure that the program itself reports is a result, not an error.
package struct CommandOutcome: Sendable, Hashable {
  package enum Ending: Sendable, Hashable {
    /// 0…255.
    case exited(status: Int32)
    case signalled(Int32)
  }

  package let ending: Ending
  package let output: [UInt8]
  package let errors: [UInt8]

  package init(ending: Ending, output: [UInt8] = [], errors: [UInt8] = []) {
    self.ending = ending
    self.output = output
    self.errors = errors
  }

  package var succeeded: Bool { ending == .exited(status: 0) }
  package var outputText: String { String(decoding: output, as: UTF8.self) }

  /// The program's standard error on one line, truncated to 500 bytes, for error texts.
  package var errorText: String {
    let line = errors.prefix(500).map { $0 == UInt8(ascii: "\n") ? UInt8(ascii: " ") : $0 }
    return String(decoding: line.reversed().drop { $0 == UInt8(ascii: " ") }.reversed(), as: UTF8.self)
  }
}

/// Runs programs. The one real runner is `SpawnedCommand`; a test may put a small model in its place.
package protocol CommandRunner: Sendable {
  /// Runs a program to completion and returns its output. Blocks the calling thread; the program gets this thread's
  /// network namespace.
  ///
  /// - Throws: `CommandError` if the program could not be started or exceeded its limits. A non-zero exit is a result.
  func run(_ command: Command) throws(CommandError) -> CommandOutcome
}

/// A program that could not be started, or that exceeded its limits. The attempt is the program and its arguments.
package typealias CommandError = LayerError<CommandFault>

package enum CommandFault: LayerFault {
  /// No executable of that name on the path.
  case notFound
  /// The system refused to start it; `errno` says why.
  case notStarted
  /// It was still running at its deadline and was killed.
  case timedOut
  /// It wrote more than its limit and was killed.
  case tooMuchOutput
  /// The wait was interrupted; it was killed.
  case interrupted
  /// A system call on its pipes failed; it was killed.
  case failed

  package func text(of error: CommandError) -> String {
    let command = error.attempt
    let what =
      switch self {
      case .notFound: "cannot find \(command)"
      case .notStarted: "cannot start \(command)"
      case .timedOut: "\(command) timed out"
      case .interrupted: "\(command) was interrupted"
      case .tooMuchOutput: "\(command) wrote too much output"
      case .failed: "\(command) failed"
      }
    return what + (error.errno == 0 ? "" : ": " + SystemErrorText.text(error.errno))
  }
}

extension CommandError {
  package var isTransient: Bool { code == .timedOut || [EAGAIN, ENOMEM, EMFILE, ENFILE, EINTR].contains(errno) }
}
