// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// SIGTERM and SIGINT, taken by one thread that waits for them instead of by a handler.
struct TerminationSignals {
  private var set = sigset_t()

  /// Blocks both signals in this thread and so in every thread made after; ignores SIGPIPE, since a peer that closes
  /// its socket is an error of that write alone. To be called before any other thread exists.
  init() {
    sigemptyset(&set)
    sigaddset(&set, SIGTERM)
    sigaddset(&set, SIGINT)
    pthread_sigmask(SIG_BLOCK, &set, nil)
    signal(SIGPIPE, SIG_IGN)
  }

  /// Blocks the calling thread until one of them arrives; returns its number.
  func wait() -> Int32 {
    var number: Int32 = 0
    var set = set
    while sigwait(&set, &number) != 0 {}
    return number
  }
}
