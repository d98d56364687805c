// SPDX-License-Identifier: Apache-2.0

internal import CCurl

/// A libcurl multi handle.
///
/// SAFETY: unchecked Sendable: the pointer never changes. Everything but `wake` is called by the loop's one thread;
/// `wake` by any thread, under the loop's lock, and never after `free` (`CurlLoop` keeps both).
struct CurlMulti: @unchecked Sendable {
  private let handle: UnsafeMutableRawPointer

  /// Nil if memory ran out.
  init?(connectionsPerHost: Int) {
    guard let handle = ccurl_multi_init() else { return nil }
    ccurl_multi_set_long(handle, CURLMOPT_MAX_HOST_CONNECTIONS, connectionsPerHost)
    // Idle connections that are kept: IMDS, EC2 and STS need few.
    ccurl_multi_set_long(handle, CURLMOPT_MAXCONNECTS, 2 * connectionsPerHost)
    // Only requests that allow HTTP/2 ever share a connection.
    ccurl_multi_set_long(handle, CURLMOPT_PIPELINING, 2 /* CURLPIPE_MULTIPLEX */)
    self.handle = handle
  }

  func free() { ccurl_multi_cleanup(handle) }

  /// May be called from any thread.
  func wake() { ccurl_multi_wakeup(handle) }

  func add(_ transfer: CurlTransfer) -> HTTPError? {
    guard let easy = transfer.easy else { return transfer.error(.other, "no libcurl handle") }
    let code = ccurl_multi_add_handle(handle, easy)
    return code == CURLM_OK ? nil : transfer.error(.other, "libcurl multi error \(code.rawValue)")
  }

  func remove(_ transfer: CurlTransfer) {
    guard let easy = transfer.easy else { return }
    ccurl_multi_remove_handle(handle, easy)
  }

  func perform() {
    var running: Int32 = 0
    ccurl_multi_perform(handle, &running)
  }

  func wait(milliseconds: Int32) {
    ccurl_multi_poll(handle, milliseconds)
  }

  /// The next transfer that ended and how, or nil.
  func nextDone() -> (id: UInt64, code: CURLcode)? {
    var code = CURLE_OK
    guard let easy = ccurl_multi_next_done(handle, &code) else { return nil }
    var context: UnsafeMutableRawPointer?
    ccurl_easy_get_pointer(easy, CURLINFO_PRIVATE, &context)
    // The private pointer is the transfer's number and not an address (`CurlTransfer.prepare`).
    return (UInt64(UInt(bitPattern: context)), code)
  }
}
