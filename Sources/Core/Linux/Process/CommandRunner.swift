// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import VPCModel

/// A program to run, and the bounds it must keep.
package struct Command: Sendable, Hashable, CustomStringConvertible {
  /// A name to look for in the runner's own path list, or an absolute path.
  package var program: String
  package var arguments: [String]
  /// What the program reads on its standard input.
  package var input: [UInt8]
  /// How long it may take from start to end.
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

/// How a program ended. A failure that the program itself reports is a result, not an error.
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

  /// What the program wrote on its standard error, on one line, cut at 500 bytes: fit for an error's text.
  package var errorText: String {
    let line = errors.prefix(500).map { $0 == UInt8(ascii: "\n") ? UInt8(ascii: " ") : $0 }
    return String(decoding: line.reversed().drop { $0 == UInt8(ascii: " ") }.reversed(), as: UTF8.self)
  }
}

/// Runs programs. The one real runner is `SpawnedCommand`; a test may put a small model in its place.
package protocol CommandRunner: Sendable {
  /// Runs a program to its end and gives back what it wrote. Blocks the calling thread; the program gets the network
  /// namespace that this thread is in.
  ///
  /// - Throws: `CommandError` where the program could not be started or did not keep its bounds. A non-zero exit is a
  ///   result.
  func run(_ command: Command) throws(CommandError) -> CommandOutcome
}

/// A program that could not be started, or that did not keep its bounds.
package struct CommandError: CausedError, Equatable {
  package struct Code: Sendable, Hashable {
    private enum Kind { case notFound, notStarted, timedOut, tooMuchOutput, interrupted, failed }
    private let kind: Kind

    /// No executable of that name on the path.
    package static let notFound = Code(kind: .notFound)
    /// The system refused to start it; `errno` says why.
    package static let notStarted = Code(kind: .notStarted)
    /// It was still running at its deadline and has been killed.
    package static let timedOut = Code(kind: .timedOut)
    /// It wrote more than its bound and has been killed.
    package static let tooMuchOutput = Code(kind: .tooMuchOutput)
    /// The one who waited for it was interrupted; it has been killed.
    package static let interrupted = Code(kind: .interrupted)
    /// A call of the system on its pipes failed; it has been killed.
    package static let failed = Code(kind: .failed)
  }

  package let code: Code
  /// The program's words.
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
