// SPDX-License-Identifier: Apache-2.0

/// HTTP over libcurl: one thread of its own runs every transfer and keeps connections for reuse.
///
/// The first request opens the library and starts the thread. The thread ends with the last reference to the transport;
/// pending requests then fail with `.closed`.
///
/// See also: `CurlLoop` (the thread), `CurlTransfer` (one request and its libcurl handle).
package final class CurlTransport: HTTPStreamTransport {
  /// Settings for every request.
  package struct Settings: Sendable {
    /// Certificates to trust, a PEM file (AWS_CA_BUNDLE); nil for the library's default.
    package var certificateFile: String?
    package var proxy: ProxySettings
    /// Maximum of pending requests; the next one fails with `.overloaded`.
    package var maximumRequests: Int
    /// Connections to one host; further requests wait for one to be free.
    package var connectionsPerHost: Int
    /// Bytes of an answer's header fields.
    package var maximumHeaderSize: Int

    package init(
      certificateFile: String? = nil, proxy: ProxySettings = ProxySettings(), maximumRequests: Int = 256,
      connectionsPerHost: Int = 8, maximumHeaderSize: Int = 32 << 10
    ) {
      self.certificateFile = certificateFile
      self.proxy = proxy
      self.maximumRequests = maximumRequests
      self.connectionsPerHost = connectionsPerHost
      self.maximumHeaderSize = maximumHeaderSize
    }
  }

  private let loop: CurlLoop

  package init(settings: Settings = Settings()) {
    loop = CurlLoop(settings: settings)
  }

  deinit { loop.stop() }

  package func send(_ request: HTTPRequest) async throws(HTTPError) -> HTTPResponse {
    let ticket = loop.ticket()
    let result: Result<HTTPResponse, HTTPError> = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let deadline = ContinuousClock.now.advanced(by: request.timeout)
        let transfer = CurlTransfer(id: ticket, request: request, deadline: deadline) {
          continuation.resume(returning: $0)
        }
        loop.submit(transfer)
        // The handler below may have run before the loop knew the transfer.
        if Task.isCancelled { loop.cancel(ticket) }
      }
    } onCancel: {
      loop.cancel(ticket)
    }
    return try result.get()
  }

  package func open(
    _ request: HTTPRequest, _ limits: HTTPStreamLimits
  ) async throws(HTTPError) -> HTTPStream {
    let ticket = loop.ticket()
    let inbox = HTTPStream.Inbox()
    let loop = loop
    let cancel: @Sendable () -> Void = { loop.cancel(ticket) }
    let head: Result<HTTPResponse?, HTTPError> = await withTaskCancellationHandler {
      let deadline = ContinuousClock.now.advanced(by: request.timeout)
      loop.submit(
        CurlTransfer(id: ticket, request: request, deadline: deadline, stream: (inbox, limits)) { result in
          inbox.end(result.map { _ in })
        })
      if Task.isCancelled { cancel() }
      do throws(HTTPError) {
        return .success(try await inbox.head())
      } catch {
        return .failure(error)
      }
    } onCancel: {
      cancel()
    }
    guard let head = try head.get() else {
      throw HTTPError(.interrupted, url: request.url, detail: "the answer ends in its header", isTransient: true)
    }
    return HTTPStream(head: head, inbox: inbox, resume: { loop.resume(ticket) }, cancel: cancel)
  }
}
