// SPDX-License-Identifier: Apache-2.0

import CProcess
import Glibc
import VPCSystem

/// The result of a program that a test ran.
package struct CommandResult: Sendable {
  package let words: [String]
  /// The exit status, or 128 + the signal.
  package let status: Int32
  package let output: String
  package let errors: String

  package struct Failed: Error, CustomStringConvertible {
    package let description: String
  }

  /// The output of a successful program.
  package func get() throws -> String {
    guard status == 0 else { throw Failed(description: "\(words.joined(separator: " ")): status \(status): \(errors)") }
    return output
  }

  /// Runs a program in the calling thread's namespace and waits for it.
  ///
  /// Input and output are files without a name, not pipes, so that neither side can block on the other.
  package static func run(_ words: [String], input: String = "") throws -> CommandResult {
    guard let name = words.first, let path = name.hasPrefix("/") ? name : TestNeeds.path(of: name) else {
      throw Failed(description: "no program \(words.first ?? "")")
    }
    let files = try (0..<3).map { _ in try namelessFile() }
    defer { for file in files { close(file) } }
    _ = Array(input.utf8).withUnsafeBytes { write(files[0], $0.baseAddress, $0.count) }
    lseek(files[0], 0, SEEK_SET)

    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, file) in files.enumerated() { posix_spawn_file_actions_adddup2(&actions, file, Int32(number)) }
    // The program must not inherit other tests' sockets.
    _ = cprocess_close_from(&actions, 3)
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    defer { for argument in arguments { free(argument) } }
    var process: pid_t = 0
    let code = posix_spawn(&process, path, &actions, nil, &arguments, environ)
    guard code == 0 else { throw Failed(description: "start \(path): \(SystemErrorText.text(code))") }
    var state: Int32 = 0
    while waitpid(process, &state, 0) < 0 {
      guard errno == EINTR else { throw Failed(description: "wait for \(path): \(SystemErrorText.text(errno))") }
    }
    let signal = state & 0x7f
    return CommandResult(
      words: words, status: signal == 0 ? (state >> 8) & 0xff : 128 + signal, output: contents(files[1]),
      errors: contents(files[2]))
  }

  private static func namelessFile() throws -> Int32 {
    var template = Array("/tmp/vpc-cni-test.XXXXXX".utf8CString)
    let file = mkstemp(&template)
    guard file >= 0 else { throw Failed(description: "make a file in /tmp: \(SystemErrorText.text(errno))") }
    unlink(template)
    _ = fcntl(file, F_SETFD, FD_CLOEXEC)
    return file
  }

  private static func contents(_ file: Int32) -> String {
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65536)
    lseek(file, 0, SEEK_SET)
    while true {
      let count = read(file, &part, part.count)
      guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
      bytes += part[..<count]
    }
  }
}
