// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// Lets a task run on an event loop: a call begins where its last byte arrived and its answer is written where the
/// handler ended, without waking another thread in between. Actors with a thread of their own keep it.
final class EventLoopExecutor: TaskExecutor {
  private let loop: any EventLoop

  init(_ loop: any EventLoop) { self.loop = loop }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
