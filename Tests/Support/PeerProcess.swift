// SPDX-License-Identifier: Apache-2.0

import CProcess
import Glibc
import Synchronization
import VPCSystem

/// A program that a test talks to through its standard input and output. It ends with this object.
package final class PeerProcess: Sendable {
  package struct Failed: Error, CustomStringConvertible {
    package let description: String
  }

  private let name: String
  private let input: Int32
  private let output: Int32
  /// Nil after it was waited for.
  private let process: Mutex<pid_t?>

  /// Starts a program by its path or, without a slash, found on PATH. Its standard error is the test's.
  package init(_ words: [String], quiet: Bool = false) throws {
    name = words.joined(separator: " ")
    var toChild: [Int32] = [-1, -1]
    var fromChild: [Int32] = [-1, -1]
    // Close-on-exec from the start: other tests fork at the same time.
    guard cprocess_pipe(&toChild, O_CLOEXEC) == 0, cprocess_pipe(&fromChild, O_CLOEXEC) == 0 else {
      throw Failed(description: "make pipes: \(SystemErrorText.text(errno))")
    }
    (input, output) = (toChild[1], fromChild[0])
    defer { for descriptor in [toChild[0], fromChild[1]] { close(descriptor) } }

    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, toChild[0], 0)
    posix_spawn_file_actions_adddup2(&actions, fromChild[1], 1)
    if quiet { posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) }
    // The program must not inherit other tests' sockets.
    _ = cprocess_close_from(&actions, 3)
    // The threads of the pool block every signal, and a child inherits their signal mask.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var arguments = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var started: pid_t = 0
    let code = posix_spawnp(&started, words[0], &actions, &attributes, &arguments, environ)
    process = Mutex(code == 0 ? started : nil)
    guard code == 0 else { throw Failed(description: "start \(name): \(SystemErrorText.text(code))") }
  }

  deinit {
    end()
    close(input)
    close(output)
  }

  /// Writes a line to the program's standard input.
  package func say(_ line: String) throws {
    var rest = Array((line + "\n").utf8)[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(input, $0.baseAddress, $0.count) }
      guard count > 0 else { throw Failed(description: "\(name): does not listen: \(SystemErrorText.text(errno))") }
      rest = rest.dropFirst(count)
    }
  }

  /// Waits for the program's next line and returns it without the newline.
  package func line() throws -> String {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while read(output, &byte, 1) == 1 {
      if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
      line.append(byte)
    }
    throw Failed(description: "\(name): ended before it said what was waited for")
  }

  /// Waits for the program's end, which must be a success.
  ///
  /// - Returns: the output that was not read before.
  package func rest() throws -> String {
    var all: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = read(output, &part, part.count)
      guard count > 0 else { break }
      all += part[..<count]
    }
    let state = wait()
    guard state == 0 else { throw Failed(description: "\(name): wait status \(state.map { "\($0)" } ?? "unknown")") }
    return String(decoding: all, as: UTF8.self)
  }

  /// Kills the program with SIGKILL if it has not ended by itself, and waits for it. A second call does nothing.
  package func end() {
    process.withLock { if let process = $0 { _ = kill(process, SIGKILL) } }
    _ = wait()
  }

  /// The wait status; nil if it was waited for before.
  private func wait() -> Int32? {
    process.withLock { process in
      guard let child = process else { return nil }
      process = nil
      var state: Int32 = 0
      while waitpid(child, &state, 0) < 0 { guard errno == EINTR else { return nil } }
      return state
    }
  }
}
