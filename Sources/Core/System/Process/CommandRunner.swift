// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import VPCModel

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

/// A program that could not be started, or that exceeded its limits.
package struct CommandError: CausedError, Equatable {
  package struct Code: Sendable, Hashable {
    private enum Kind { case notFound, notStarted, timedOut, tooMuchOutput, interrupted, failed }
    private let kind: Kind

    /// No executable of that name on the path.
    package static let notFound = Code(kind: .notFound)
    /// The system refused to start it; `errno` says why.
    package static let notStarted = Code(kind: .notStarted)
    /// It was still running at its deadline and was killed.
    package static let timedOut = Code(kind: .timedOut)
    /// It wrote more than its limit and was killed.
    package static let tooMuchOutput = Code(kind: .tooMuchOutput)
    /// The wait was interrupted; it was killed.
    package static let interrupted = Code(kind: .interrupted)
    /// A system call on its pipes failed; it was killed.
    package static let failed = Code(kind: .failed)
  }

  package let code: Code
  /// The program and its arguments.
  package let command: String
  /// The system's error number, or 0.
  package let errno: Int32

  package init(_ code: Code, _ command: String, errno: Int32 = 0) {
    self.code = code
    self.command = command
    self.errno = errno
  }

  package var cause: (any Error)? { nil }

  package var isTransient: Bool {
    code == .timedOut || [EAGAIN, ENOMEM, EMFILE, ENFILE, EINTR].contains(errno)
  }

  package var description: String {
    let what =
      switch code {
      case .notFound: "cannot find \(command)"
      case .notStarted: "cannot start \(command)"
      case .timedOut: "\(command) timed out"
      case .interrupted: "\(command) was interrupted"
      case .tooMuchOutput: "\(command) wrote too much output"
      default: "\(command) failed"
      }
    return what + (errno == 0 ? "" : ": " + SystemErrorText.text(errno))
  }
}
