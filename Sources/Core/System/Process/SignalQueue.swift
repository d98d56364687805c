// SPDX-License-Identifier: Apache-2.0
// sigset_t counts as CProcess's, whose header includes signal.h too.
internal import CProcess
internal import Glibc
internal import VPCModel

/// Signals received by one waiting thread, instead of by handlers.
///
/// This works for PID 1 of a container too: the kernel drops signals that an init process does not handle, but never
/// those that it blocks.
package struct SignalQueue {
  private var set = sigset_t()

  /// Blocks the signals in this thread and so in every later thread; ignores SIGPIPE, since a closed peer is an error
  /// of that write only. Call it before any other thread exists.
  package init(_ numbers: [Int32] = [SIGTERM, SIGINT]) {
    sigemptyset(&set)
    for number in numbers { sigaddset(&set, number) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    signal(SIGPIPE, SIG_IGN)
  }

  /// Blocks the calling thread until one of them arrives; returns its number.
  package func next() -> Int32 {
    var number: Int32 = 0
    var set = set
    while sigwait(&set, &number) != 0 {}
    return number
  }

  /// As `next()`, but nil when none has arrived in that time.
  package func next(within limit: Duration) -> Int32? {
    var time = timespec(nanoseconds: max(limit, .zero).saturatedNanoseconds)
    var set = set
    // EINTR comes from a signal outside the set: the caller's clock decides whether to continue waiting.
    let number = sigtimedwait(&set, nil, &time)
    return number > 0 ? number : nil
  }
}
