// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// Runs a task on an event loop: a call starts where its last byte arrived and its answer is written where the handler
/// ended, without a thread switch. Actors with their own thread keep it.
final class EventLoopExecutor: TaskExecutor {
  private let loop: any EventLoop

  init(_ loop: any EventLoop) { self.loop = loop }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
