// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCModel

/// Runs programs by posix_spawn: no shell, no inherited descriptors, a process group of their own.
package struct SpawnedCommand: CommandRunner {
  /// Where programs are searched, in this order. Not the process's PATH, which a pod specification may change.
  package let path: [String]
  /// The complete environment of programs, `NAME=value`.
  package let environment: [String]

  package static let defaultPath = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"]

  package init(
    path: [String] = SpawnedCommand.defaultPath,
    environment: [String] = ["PATH=" + SpawnedCommand.defaultPath.joined(separator: ":"), "LC_ALL=C"]
  ) {
    self.path = path
    self.environment = environment
  }

  /// A program's path; nil if none with that name is executable.
  package func locate(_ program: String) -> String? {
    if program.hasPrefix("/") { return access(program, X_OK) == 0 ? program : nil }
    guard !program.isEmpty, !program.utf8.contains(UInt8(ascii: "/")) else { return nil }
    return path.map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
  }

  /// The program's input is written while its outputs are read, so that neither side blocks the other. At its deadline
  /// its process group gets SIGTERM, and SIGKILL half a second later.
  package func run(_ command: Command) throws(CommandError) -> CommandOutcome {
    guard let file = locate(command.program) else { throw CommandError(.notFound, command.description) }
    let started = ContinuousClock.now
    var pipes = try ChildPipes(command.description)
    defer { pipes.closeAll() }
    var child = SpawnedChild(process: try start(file, command, pipes))
    defer { child.forget() }
    pipes.closeChildEnds()
    var outputs = [ChildOutput](repeating: ChildOutput(limit: command.outputLimit, surplus: .isAnError), count: 2)
    do {
      let deadline = started.advanced(by: command.deadline)
      try pipes.exchange(command, child: &child, until: deadline, into: &outputs)
      let ending = try child.wait(until: deadline, command.description)
      return CommandOutcome(ending: ending, output: outputs[0].bytes, errors: outputs[1].bytes)
    } catch {
      child.end()
      throw error
    }
  }

  /// As `run`, for reports: keeps the output even if the program exceeded its limits, and the end of too much output.
  /// Remaining processes of its group are killed.
  package func capture(_ command: Command, interruption: Interruption? = nil) -> CommandCapture {
    guard let file = locate(command.program) else { return CommandCapture(ending: .notFound) }
    let deadline = ContinuousClock.now.advanced(by: command.deadline)
    var outputs = [ChildOutput](repeating: ChildOutput(limit: command.outputLimit, surplus: .dropsTheOldest), count: 2)
    let ending: CommandCapture.Ending
    do throws(CommandError) {
      var pipes = try ChildPipes(command.description)
      defer { pipes.closeAll() }
      var child = SpawnedChild(process: try start(file, command, pipes))
      defer {
        child.end()
        child.forget()
      }
      pipes.closeChildEnds()
      try pipes.exchange(command, child: &child, until: deadline, into: &outputs, interruption: interruption)
      switch try child.wait(until: deadline, command.description, interruption: interruption) {
      case .exited(let status): ending = .exited(status: status)
      case .signalled(let number): ending = .signalled(number)
      }
    } catch {
      switch error.code {
      case .timedOut: ending = .timedOut
      case .interrupted: ending = .interrupted
      default: ending = .notRun("\(error)")
      }
    }
    for number in outputs.indices { outputs[number].trim() }
    return CommandCapture(
      ending: ending, output: outputs[0].bytes, errors: outputs[1].bytes, dropped: outputs[0].dropped)
  }

  private func start(_ file: String, _ command: Command, _ pipes: ChildPipes) throws(CommandError) -> pid_t {
    var program = ProcessStart(file, words: [file] + command.arguments)
    program.environment = environment
    program.streams = pipes.childEnds + (command.heldDescriptor.map { [$0] } ?? [])
    program.closesOthers = true
    program.leadsGroup = true
    do throws(SystemCallError) {
      return try program.run()
    } catch {
      throw CommandError(.notStarted, command.description, errno: error.errno)
    }
  }
}
