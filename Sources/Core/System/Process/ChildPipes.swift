// SPDX-License-Identifier: Apache-2.0
// struct pollfd counts as CProcess's, whose header includes poll.h too.
internal import CProcess
internal import Glibc
internal import VPCModel

/// The three pipes between parent and child: its input, output and errors.
///
/// The owner calls `closeAll` when done; every descriptor is closed once.
struct ChildPipes {
  /// The child's descriptors 0, 1 and 2.
  private(set) var childEnds: [Int32] = []
  private var ownEnds: [Int32] = []

  init(_ command: String) throws(CommandError) {
    for number in 0..<3 {
      var ends: [Int32] = [-1, -1]
      guard cprocess_pipe(&ends, O_CLOEXEC) == 0 else {
        let code = errno
        closeAll()
        throw CommandError(.notStarted, command, errno: code)
      }
      childEnds.append(number == 0 ? ends[0] : ends[1])
      ownEnds.append(number == 0 ? ends[1] : ends[0])
      // Only the parent's ends: the child expects blocking ones.
      _ = fcntl(ownEnds[number], F_SETFL, O_NONBLOCK)
    }
  }

  mutating func closeChildEnds() {
    for end in childEnds { close(end) }
    childEnds = []
  }

  mutating func closeAll() {
    closeChildEnds()
    for end in ownEnds where end >= 0 { close(end) }
    ownEnds = []
  }

  private mutating func closeOwn(_ number: Int) {
    close(ownEnds[number])
    ownEnds[number] = -1
  }

  /// Writes the input and reads both outputs until the child has closed them or has exited (a grandchild may hold them
  /// open longer), or until the deadline or an interruption.
  mutating func exchange(
    _ command: Command, child: inout SpawnedChild, until deadline: ContinuousClock.Instant,
    into outputs: inout [ChildOutput], interruption: Interruption? = nil
  ) throws(CommandError) {
    var input = command.input[...]
    if input.isEmpty { closeOwn(0) }
    while ownEnds[1] >= 0 || ownEnds[2] >= 0 {
      let left = ContinuousClock.now.duration(to: deadline)
      guard left > .zero else { throw CommandError(.timedOut, command.description) }
      // poll(2) skips entries with a negative descriptor.
      var entries = ownEnds.enumerated().map { number, end in
        pollfd(fd: end, events: Int16(number == 0 ? POLLOUT : POLLIN), revents: 0)
      }
      entries.append(pollfd(fd: child.descriptor, events: Int16(POLLIN), revents: 0))
      entries.append(pollfd(fd: interruption?.descriptor ?? -1, events: Int16(POLLIN), revents: 0))
      let ready = poll(&entries, nfds_t(entries.count), child.descriptor >= 0 ? left.pollMilliseconds : 100)
      if ready < 0 {
        if errno == EINTR { continue }
        throw CommandError(.failed, command.description, errno: errno)
      }
      guard entries[4].revents == 0 else { throw CommandError(.interrupted, command.description) }
      if entries[0].revents != 0, try write(&input, command.description) { closeOwn(0) }
      for number in 1...2 where entries[number].revents != 0 {
        if try read(number, into: &outputs[number - 1], command) { closeOwn(number) }
      }
      // The child has exited and its output is read: other holders of its pipes are not waited for.
      if entries[1].revents == 0 && entries[2].revents == 0 {
        child.poll()
        if child.ending != nil { break }
      }
    }
  }

  /// Writes what fits.
  ///
  /// - Returns: whether there is no more to write, or no reader.
  private func write(_ input: inout ArraySlice<UInt8>, _ command: String) throws(CommandError) -> Bool {
    while !input.isEmpty {
      // SAFETY: the bytes are read within the call alone.
      let (count, code) = input.withUnsafeBytes { bytes in
        // A program that does not read its input must not kill this process by SIGPIPE.
        SignalPipe.blocked { (Glibc.write(ownEnds[0], bytes.baseAddress, bytes.count), errno) }
      }
      if count > 0 {
        input = input.dropFirst(count)
      } else if code == EAGAIN {
        return false
      } else if code == EPIPE {
        return true
      } else if code != EINTR {
        throw CommandError(.failed, command, errno: code)
      }
    }
    return true
  }

  /// Reads what is there.
  ///
  /// - Returns: whether the child has closed its end.
  private func read(_ number: Int, into output: inout ChildOutput, _ command: Command) throws(CommandError) -> Bool {
    while true {
      // SAFETY: the bytes that read(2) has written are copied before the buffer goes.
      let (count, code, fits) = withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) { buffer in
        let count = Glibc.read(ownEnds[number], buffer.baseAddress, buffer.count)
        let code = errno
        return (count, code, count <= 0 || output.append(UnsafeRawBufferPointer(rebasing: buffer[..<count])))
      }
      if count == 0 { return true }
      guard fits else {
        throw CommandError(.tooMuchOutput, command.description)
      }
      if count < 0 {
        if code == EAGAIN { return false }
        if code != EINTR { throw CommandError(.failed, command.description, errno: code) }
      }
    }
  }
}

/// Blocks SIGPIPE in the calling thread while it writes to a pipe.
private enum SignalPipe {
  static func blocked<Value>(_ body: () -> Value) -> Value {
    var mask = sigset_t()
    var old = sigset_t()
    sigemptyset(&mask)
    sigaddset(&mask, SIGPIPE)
    pthread_sigmask(SIG_BLOCK, &mask, &old)
    let value = body()
    // A signal raised by the write is pending only on this thread: consumed here, it is never delivered.
    var now = timespec(tv_sec: 0, tv_nsec: 0)
    while sigtimedwait(&mask, nil, &now) < 0 && errno == EINTR {}
    pthread_sigmask(SIG_SETMASK, &old, nil)
    return value
  }
}
