// SPDX-License-Identifier: Apache-2.0

internal import CProcess
internal import Glibc

/// Starts threads.
package enum SystemThread {
  /// Starts a thread that ends with `body` and that nobody waits for.
  ///
  /// - Parameters:
  ///   - name: what `ps -T` shows; the kernel keeps 15 bytes. Nil keeps the name of the thread that starts it.
  ///   - stackSize: bytes; nil for the system's default.
  /// - Throws: `SystemCallError` if no thread can be created.
  package static func start(
    name: String? = nil, stackSize: Int? = nil, _ body: @escaping @Sendable () -> Void
  ) throws(SystemCallError) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    if let stackSize { pthread_attr_setstacksize(&attributes, stackSize) }
    _ = try create(&attributes, Work(name, body))
  }

  /// Runs `body` on a new thread and waits for its end.
  ///
  /// For work that changes its thread (setns, unshare). The caller's thread waits, so keep the work short and do not call
  /// it from the cooperative pool if the work can block.
  ///
  /// - Throws: errors of `body`; `SystemCallError` if no thread can be created.
  package static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
    let outcome = Outcome<Value>()
    pthread_join(try create(nil, Work(nil) { outcome.result = Result { try body() } }), nil)
    guard let result = outcome.result else { throw SystemCallError(errno: ECANCELED, call: "run on a thread") }
    return try result.get()
  }

  private static func create(
    _ attributes: UnsafePointer<pthread_attr_t>?, _ work: Work
  ) throws(SystemCallError) -> pthread_t {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(work)
    let code = pthread_create(
      &thread, attributes,
      { context in
        guard let context else { return nil }
        // SAFETY: takes over the reference that `create` retained for this thread.
        Unmanaged<Work>.fromOpaque(context).takeRetainedValue().run()
        return nil
      }, context.toOpaque())
    guard code == 0 else {
      context.release()
      throw SystemCallError(errno: code, call: "make a thread")
    }
    return thread
  }

  /// A class without parameters, which a C pointer can stand for.
  private final class Work: Sendable {
    private let name: String?
    private let body: @Sendable () -> Void

    init(_ name: String?, _ body: @escaping @Sendable () -> Void) {
      self.name = name
      self.body = body
    }

    func run() {
      if let name { cprocess_name_thread(String(decoding: name.utf8.prefix(15), as: UTF8.self)) }
      body()
    }
  }

  // SAFETY: written by the new thread alone, and read after that thread has ended.
  private final class Outcome<Value: Sendable>: @unchecked Sendable {
    var result: Result<Value, any Error>?
  }
}
