// SPDX-License-Identifier: Apache-2.0

internal import CCurl
internal import VPCModel

/// One request: its libcurl handle, the received part of the answer, and its waiter.
///
/// SAFETY: unchecked Sendable: created and validated by the caller, then passed to the loop's thread by
/// `CurlLoop.submit`; only that thread uses it afterwards.
final class CurlTransfer: @unchecked Sendable {
  let id: UInt64
  let request: HTTPRequest
  private let deadline: ContinuousClock.Instant
  private var completion: ((Result<HTTPResponse, HTTPError>) -> Void)?
  /// Owned: freed in `deinit`, after `CurlMulti.remove`.
  private(set) var easy: UnsafeMutableRawPointer?
  private var headerList: UnsafeMutablePointer<curl_slist>?
  private var headers = HTTPHeaders()
  private var headerSize = 0
  /// The blank line after the header was seen.
  private var isHeaderComplete = false
  /// Of the last status line; 0 before it.
  private var status = 0
  /// The receiver of a streamed body; nil if the body is collected.
  private let stream: (inbox: HTTPStream.Inbox, limits: HTTPStreamLimits)?
  private var isStreamOpen = false
  private var isPaused = false
  private var lastByteAt: ContinuousClock.Instant
  /// Bytes of the body that libcurl has requested, if it may not see all of them (`HTTPRequest.isRepeatable`).
  private var sentBody = 0
  private var maximumHeaderSize = 0
  private var body: [UInt8] = []
  /// Set by a callback that refused data; libcurl's code only says that it did.
  private var refusal: (code: HTTPError.Code, text: String)?

  init(
    id: UInt64, request: HTTPRequest, deadline: ContinuousClock.Instant,
    stream: (inbox: HTTPStream.Inbox, limits: HTTPStreamLimits)? = nil,
    completion: @escaping @Sendable (Result<HTTPResponse, HTTPError>) -> Void
  ) {
    self.id = id
    self.request = request
    self.deadline = deadline
    self.stream = stream
    self.completion = completion
    lastByteAt = .now
  }

  deinit {
    if let easy { ccurl_easy_cleanup(easy) }
    if let headerList { ccurl_slist_free_all(headerList) }
  }

  /// Resumes the waiter, the first time it is called.
  func finish(_ result: Result<HTTPResponse, HTTPError>) {
    completion?(result)
    completion = nil
  }

  func error(
    _ code: HTTPError.Code, _ detail: String, isTransient: Bool = false, isUnsent: Bool = true
  ) -> HTTPError {
    HTTPError(code, url: request.url, detail: detail, isTransient: isTransient, isUnsent: isUnsent)
  }

  /// What is wrong with the request itself, before libcurl is asked.
  func validate() -> HTTPError? {
    guard request.url.hasPrefix("http://") || request.url.hasPrefix("https://") else {
      return error(.invalidRequest, "neither http nor https")
    }
    guard request.url.utf8.count <= 8192, request.url.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      return error(.invalidRequest, "the URL has a character that must be encoded, or is longer than 8192 bytes")
    }
    for field in request.headers.fields {
      let isToken = !field.name.isEmpty && field.name.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != 0x3a }
      // A line end in a value would allow header injection.
      guard isToken, field.value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 }) else {
        return error(
          .invalidRequest, "header \(field.name.utf8.count <= 64 ? field.name : "") has a forbidden character")
      }
    }
    return nil
  }

  /// Creates and configures the handle. On the loop's thread.
  func prepare(_ settings: CurlTransport.Settings) -> HTTPError? {
    let left = milliseconds(until: deadline)
    let whole = stream.map { max(left, $0.limits.lifetime.curlMilliseconds) } ?? left
    guard left > 0 else { return error(.timedOut, "the deadline passed while the request waited", isTransient: true) }
    guard let easy = ccurl_easy_init() else { return error(.other, "no memory for a libcurl handle") }
    self.easy = easy
    maximumHeaderSize = settings.maximumHeaderSize
    var failed: CURLcode = CURLE_OK
    func set(_ code: CURLcode) { if failed == CURLE_OK { failed = code } }
    set(ccurl_easy_set_pointer(easy, CURLOPT_URL, request.url))
    set(ccurl_easy_limit_protocols(easy))
    set(ccurl_easy_set_long(easy, CURLOPT_NOSIGNAL, 1))
    set(prepareVersion(easy))
    set(ccurl_easy_set_long(easy, CURLOPT_TIMEOUT_MS, whole))
    set(ccurl_easy_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, min(left, request.connectTimeout.curlMilliseconds)))
    set(ccurl_easy_set_long(easy, CURLOPT_FOLLOWLOCATION, request.redirects > 0 ? 1 : 0))
    set(ccurl_easy_set_long(easy, CURLOPT_MAXREDIRS, request.redirects))
    // EC2 closes idle connections early; a younger one is rarely stale.
    set(ccurl_easy_set_long(easy, CURLOPT_MAXAGE_CONN, 30))
    set(ccurl_easy_set_long(easy, CURLOPT_BUFFERSIZE, 16 << 10))
    set(prepareTLS(easy, settings))
    set(prepareProxy(easy, settings.proxy))
    set(prepareMessage(easy))
    set(prepareCallbacks(easy))
    return failed == CURLE_OK ? nil : error(.other, "libcurl refused an option: \(CurlTransfer.words(failed))")
  }

  private func prepareProxy(_ easy: UnsafeMutableRawPointer, _ proxy: ProxySettings) -> CURLcode {
    let server = request.url.hasPrefix("https:") ? proxy.https : proxy.http
    // An empty text, unlike NULL, keeps libcurl from reading the environment.
    let code = ccurl_easy_set_pointer(easy, CURLOPT_PROXY, request.useProxy ? server ?? "" : "")
    guard code == CURLE_OK else { return code }
    return ccurl_easy_set_pointer(easy, CURLOPT_NOPROXY, request.useProxy ? proxy.exceptions ?? "" : "*")
  }

  private func prepareMessage(_ easy: UnsafeMutableRawPointer) -> CURLcode {
    // libcurl adds a content type of its own to a body, and waits for "100 Continue" before a larger one.
    var lines = ["Expect:", "Accept:"]
    if request.method != .get && request.headers["Content-Type"] == nil { lines.append("Content-Type:") }
    // A field without a value is written with a semicolon; with a colon libcurl would drop it.
    lines += request.headers.fields.map { $0.value.isEmpty ? "\($0.name);" : "\($0.name): \($0.value)" }
    for line in lines {
      guard let longer = ccurl_slist_append(headerList, line) else { return CURLE_OUT_OF_MEMORY }
      headerList = longer
    }
    var code = ccurl_easy_set_pointer(easy, CURLOPT_HTTPHEADER, headerList)
    guard code == CURLE_OK, request.method != .get else { return code }
    code = ccurl_easy_set_size(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(request.body.count))
    guard code == CURLE_OK else { return code }
    if request.isRepeatable || request.body.isEmpty {
      code = ccurl_easy_set_pointer(easy, CURLOPT_COPYPOSTFIELDS, request.body.isEmpty ? [0] : request.body)
    } else {
      // On a kept connection that the server closes without an answer, libcurl sends the request again on a new one. It
      // cannot if the body comes from a callback that cannot rewind.
      code = ccurl_easy_set_long(easy, CURLOPT_POST, 1)
      if code == CURLE_OK { code = ccurl_easy_set_long(easy, CURLOPT_UPLOAD_BUFFERSIZE, 16 << 10) }
    }
    guard code == CURLE_OK, request.method != .post else { return code }
    return ccurl_easy_set_pointer(easy, CURLOPT_CUSTOMREQUEST, request.method.rawValue)
  }

  private func prepareCallbacks(_ easy: UnsafeMutableRawPointer) -> CURLcode {
    // SAFETY: the loop keeps the transfer alive as long as its handle is in the multi handle, and libcurl calls back only
    // from `curl_multi_perform` and `curl_multi_remove_handle`, on that thread.
    let context = Unmanaged.passUnretained(self).toOpaque()
    let codes = [
      ccurl_easy_set_pointer(easy, CURLOPT_PRIVATE, UnsafeRawPointer(bitPattern: UInt(id))),
      ccurl_easy_set_pointer(easy, CURLOPT_WRITEDATA, context),
      ccurl_easy_set_pointer(easy, CURLOPT_HEADERDATA, context),
      ccurl_easy_set_pointer(easy, CURLOPT_READDATA, context),
      ccurl_easy_set_receive(easy, CURLOPT_READFUNCTION) { CurlTransfer.provide($0, $1 * $2, $3) },
      ccurl_easy_set_receive(easy, CURLOPT_WRITEFUNCTION) {
        CurlTransfer.receive($0, $1 * $2, $3, { $0.takeBody($1) })
      },
      ccurl_easy_set_receive(easy, CURLOPT_HEADERFUNCTION) {
        CurlTransfer.receive($0, $1 * $2, $3, { $0.takeHeader($1) ? .taken : .refused })
      },
    ]
    return codes.first { $0 != CURLE_OK } ?? CURLE_OK
  }

  /// The receiver's result.
  private enum Receipt { case taken, refused, paused }

  /// - Returns: the number of bytes taken: all; for a refusal a different number; or libcurl's pause code, after which
  ///   the same bytes are delivered again.
  private static func receive(
    _ data: UnsafeMutablePointer<CChar>?, _ count: Int, _ context: UnsafeMutableRawPointer?,
    _ take: (CurlTransfer, UnsafeRawBufferPointer) -> Receipt
  ) -> Int {
    guard let context, let data else { return 0 }
    // SAFETY: `context` is the unretained transfer that `prepareCallbacks` gave; `data` is valid for this call.
    let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
    return switch take(transfer, UnsafeRawBufferPointer(start: data, count: count)) {
    case .taken: count
    case .refused: count == 0 ? 1 : 0
    case .paused: 0x1000_0001  // CURL_WRITEFUNC_PAUSE
    }
  }

  /// Copies the next part of the request's body to libcurl's buffer.
  private static func provide(
    _ buffer: UnsafeMutablePointer<CChar>?, _ size: Int, _ context: UnsafeMutableRawPointer?
  ) -> Int {
    guard let context, let buffer else { return 0 }
    // SAFETY: as in `receive`; `buffer` has room for `size` bytes, and no more are written.
    let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
    let part = transfer.request.body[transfer.sentBody...].prefix(size)
    for (index, byte) in part.enumerated() { buffer[index] = CChar(bitPattern: byte) }
    transfer.sentBody += part.count
    return part.count
  }

  private func takeBody(_ data: UnsafeRawBufferPointer) -> Receipt {
    if let stream {
      // A redirect's own body, where redirects are followed.
      guard isStreamOpen else { return .taken }
      isPaused = !stream.inbox.push(data, highWater: stream.limits.highWater)
      if !isPaused { lastByteAt = .now }
      return isPaused ? .paused : .taken
    }
    guard body.count + data.count <= request.maximumBodySize else {
      refusal = (.bodyTooLarge, "the body is larger than the \(request.maximumBodySize) bytes allowed")
      return .refused
    }
    body.append(contentsOf: data)
    return .taken
  }

  /// The reader has consumed the data. On the loop's thread; data may arrive within the call.
  func resume() {
    guard isPaused, let easy else { return }
    isPaused = false
    lastByteAt = .now
    // A failure shows as the transfer's end.
    _ = ccurl_easy_resume(easy)
  }

  /// When a stream's own limits are checked next; nil if libcurl's timeout suffices.
  var lookAt: ContinuousClock.Instant? {
    guard let stream else { return nil }
    if !isStreamOpen { return deadline }
    return isPaused ? nil : lastByteAt.advanced(by: stream.limits.idle)
  }

  /// Why a stream must end at that time, if so.
  func overdue(_ now: ContinuousClock.Instant) -> HTTPError? {
    guard let lookAt, lookAt <= now else { return nil }
    let detail = isStreamOpen ? "nothing came for \(stream?.limits.idle.brief ?? "long")" : "no answer in time"
    return error(.timedOut, detail, isTransient: true, isUnsent: isUnsent)
  }

  var isStream: Bool { stream != nil }

  /// One line of the header, its line end included.
  private func takeHeader(_ data: UnsafeRawBufferPointer) -> Bool {
    headerSize += data.count
    guard headerSize <= maximumHeaderSize else {
      refusal = (.headersTooLarge, "the header is larger than the \(maximumHeaderSize) bytes allowed")
      return false
    }
    let line = String(decoding: data, as: UTF8.self)
    lastByteAt = .now
    let isStatus = line.hasPrefix("HTTP/")
    // Trailers of a chunked body: they are counted and ignored.
    if isHeaderComplete && !isStatus { return true }
    isHeaderComplete = line == "\r\n" || line == "\n"
    if isStatus {
      // The previous header was an interim answer or a redirect.
      headers = HTTPHeaders()
      body = []
      status = line.split(separator: " ").dropFirst().first.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
    } else if isHeaderComplete {
      openStream()
    } else if let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")) {
      let value = line[line.index(after: colon)...]
      headers.append(String(line[..<colon]), String(value.drop(while: \.isWhitespace).trimmedEnd))
    }
    return true
  }

  /// The header is complete: the reader gets it, unless it is an interim answer or a redirect that is followed.
  private func openStream() {
    guard let stream, !isStreamOpen, status >= 200 else { return }
    if (300..<400).contains(status), request.redirects > 0, headers["Location"] != nil { return }
    isStreamOpen = true
    stream.inbox.begin(HTTPResponse(status: status, headers: headers))
  }

  // MARK: the end

  /// True while no byte of the request has been written.
  var isUnsent: Bool {
    guard let easy else { return true }
    var size = 0
    ccurl_easy_get_long(easy, CURLINFO_REQUEST_SIZE, &size)
    return size == 0
  }

  /// The meaning of libcurl's result code.
  func result(_ code: CURLcode) -> Result<HTTPResponse, HTTPError> {
    guard code == CURLE_OK, let easy else { return .failure(failure(code)) }
    var status = 0
    ccurl_easy_get_long(easy, CURLINFO_RESPONSE_CODE, &status)
    guard (200...999).contains(status) else {
      return .failure(error(.malformed, "status \(status)", isTransient: true, isUnsent: false))
    }
    // libcurl treats a connection closed within the header as an empty answer.
    guard isHeaderComplete else {
      return .failure(error(.interrupted, "the answer ends in its header", isTransient: true, isUnsent: false))
    }
    return .success(HTTPResponse(status: status, headers: headers, body: body))
  }

  private func failure(_ code: CURLcode) -> HTTPError {
    let isUnsent = isUnsent
    if let refusal {
      return HTTPError(
        refusal.code, url: request.url, curlCode: Int32(code.rawValue), detail: refusal.text, isUnsent: false)
    }
    let (kind, isTransient) = CurlTransfer.classify(code, isUnsent: isUnsent)
    return HTTPError(
      kind, url: request.url, curlCode: Int32(code.rawValue), detail: CurlTransfer.words(code),
      isTransient: isTransient, isUnsent: isUnsent)
  }

  private static func classify(_ code: CURLcode, isUnsent: Bool) -> (HTTPError.Code, isTransient: Bool) {
    switch code {
    case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: (.unresolved, true)
    case CURLE_COULDNT_CONNECT: (.unconnected, true)
    case CURLE_OPERATION_TIMEDOUT: (.timedOut, true)
    case CURLE_SSL_CONNECT_ERROR: (.untrusted, true)
    case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM: (.untrusted, false)
    case CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_PARTIAL_FILE, CURLE_SEND_FAIL_REWIND:
      (.interrupted, true)
    // Garbage instead of a status line is reported as HTTP/0.9, a protocol that is not supported.
    case CURLE_UNSUPPORTED_PROTOCOL where !isUnsent: (.malformed, true)
    case CURLE_WEIRD_SERVER_REPLY, CURLE_BAD_CONTENT_ENCODING: (.malformed, true)
    case CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT: (.invalidRequest, false)
    default: (.other, false)
    }
  }

  private static func words(_ code: CURLcode) -> String {
    ccurl_easy_strerror(code).map { String(cString: $0).lowercased() } ?? "libcurl code \(code.rawValue)"
  }

  private func milliseconds(until instant: ContinuousClock.Instant) -> Int {
    ContinuousClock.now.duration(to: instant).curlMilliseconds
  }
}

extension Duration {
  /// Rounded down, between 0 and a day.
  fileprivate var curlMilliseconds: Int { Int(min(max(wholeMilliseconds, 0), 86_400_000)) }
}

extension Substring {
  fileprivate var trimmedEnd: Substring {
    var end = endIndex
    while end > startIndex, self[index(before: end)].isWhitespace { end = index(before: end) }
    return self[..<end]
  }
}
