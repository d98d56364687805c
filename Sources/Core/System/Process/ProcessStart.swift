// SPDX-License-Identifier: Apache-2.0
// sigset_t counts as CProcess's, whose header includes signal.h too.
internal import CProcess
internal import Glibc

/// How a program starts: by posix_spawn, without a shell. This process may block or ignore signals; the program starts
/// with none blocked and all at default.
package struct ProcessStart: Sendable {
  /// The program's absolute path.
  package let file: String
  /// The program's arguments; the first is its name.
  package let words: [String]
  /// The complete environment, `NAME=value`; nil for this process's own.
  package var environment: [String]?
  /// What the program gets as its descriptors 0, 1, 2…; it inherits the rest of them.
  package var streams: [Int32] = []
  /// Descriptors above 2 and beyond `streams` are not inherited, even those that a library opened without O_CLOEXEC.
  package var closesOthers = false
  /// It leads a process group of its own.
  package var leadsGroup = false

  package init(_ file: String, words: [String]) {
    self.file = file
    self.words = words
  }

  /// - Returns: the process's number. It has executed the program.
  /// - Throws: `SystemCallError`; EINVAL for a word with a NUL.
  package func run() throws(SystemCallError) -> Int32 {
    guard !(words + (environment ?? [])).contains(where: { $0.utf8.contains(0) }) else {
      throw SystemCallError(errno: EINVAL, call: "start \(file)")
    }
    var actions = posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    for (number, stream) in streams.enumerated() { posix_spawn_file_actions_adddup2(&actions, stream, Int32(number)) }
    if closesOthers { _ = cprocess_close_from(&actions, Int32(max(3, streams.count))) }
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (leadsGroup ? POSIX_SPAWN_SETPGROUP : 0)
    posix_spawnattr_setflags(&attributes, Int16(flags))
    // SAFETY: the copies live until posix_spawn has returned, which is when the child has executed the program.
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
    var variables: [UnsafeMutablePointer<CChar>?] = (environment ?? []).map { strdup($0) } + [nil]
    defer { for pointer in arguments + variables { free(pointer) } }
    var process: pid_t = 0
    let code =
      environment == nil
      ? posix_spawn(&process, file, &actions, &attributes, &arguments, environ)
      : posix_spawn(&process, file, &actions, &attributes, &arguments, &variables)
    guard code == 0 else { throw SystemCallError(errno: code, call: "start \(file)") }
    return process
  }
}
