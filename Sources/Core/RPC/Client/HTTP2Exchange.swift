// SPDX-License-Identifier: Apache-2.0

import CNghttp2

/// One unary request and its answer as HTTP/2, without I/O: `takeOutput` gives the bytes to send, `feed` takes what came.
///
/// A class because nghttp2's callbacks reach it through a pointer, which is this object, alive as long as the session it
/// owns. It lives on one thread.
final class HTTP2Exchange {
  /// The response so far.
  private(set) var response: UnaryResponse
  /// The peer accepts no more streams. It still answers existing ones.
  private(set) var isGoingAway = false

  private var session: OpaquePointer?
  private let body: [UInt8]
  private var bodySent = 0
  private var stream: Int32 = -1

  /// - Parameter body: a whole gRPC message frame.
  init(headers: [(String, String)], body: [UInt8], responseLimit: Int) throws(RPCError) {
    self.body = body
    response = UnaryResponse(limit: responseLimit)
    session = try makeSession()
    // No server push: the only setting with an unsuitable default.
    var setting = nghttp2_settings_entry(settings_id: Int32(NGHTTP2_SETTINGS_ENABLE_PUSH.rawValue), value: 0)
    try check(nghttp2_submit_settings(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), &setting, 1))
    try submit(headers)
  }

  deinit { nghttp2_session_del(session) }

  /// The bytes to send now; empty if there are none, or the peer's window is full.
  ///
  /// - Throws: INTERNAL if the peer has violated the protocol: the pending bytes are then a GOAWAY.
  func takeOutput() throws(RPCError) -> [UInt8] {
    var out: [UInt8] = []
    while true {
      var bytes: UnsafePointer<UInt8>?
      let count = nghttp2_session_mem_send(session, &bytes)
      guard count > 0, let bytes else {
        try check(Int32(count))
        // nghttp2 reports a breach by a GOAWAY, and wants no more input once that is on its way.
        guard response.isEnded || nghttp2_session_want_read(session) != 0 else {
          throw RPCError(.exchange, RPCStatus(.internal, "answer is not http/2"))
        }
        return out
      }
      // SAFETY: nghttp2 keeps `count` bytes there until its next call; they are copied at once.
      out.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
    }
  }

  /// The request is on its way as a whole: what may still be sent is only acknowledgements.
  var isRequestSent: Bool { bodySent == body.count }

  /// Gives received bytes to the session.
  ///
  /// - Throws: INTERNAL for bytes that are not HTTP/2, RESOURCE_EXHAUSTED for an answer beyond its bounds.
  func feed(_ bytes: ArraySlice<UInt8>) throws(RPCError) {
    // SAFETY: the pointer lives for the call; the callbacks copy what they keep.
    let count = bytes.withUnsafeBufferPointer { nghttp2_session_mem_recv(session, $0.baseAddress, $0.count) }
    if let failure = response.failure { throw RPCError(.exchange, failure) }
    try check(Int32(count))
  }

  private func makeSession() throws(RPCError) -> OpaquePointer? {
    var callbacks: OpaquePointer?
    try check(nghttp2_session_callbacks_new(&callbacks))
    defer { nghttp2_session_callbacks_del(callbacks) }
    nghttp2_session_callbacks_set_on_header_callback(callbacks) { _, frame, name, nameCount, value, count, _, me in
      HTTP2Exchange.from(me)?.received(
        header: UnsafeBufferPointer(start: name, count: nameCount),
        value: UnsafeBufferPointer(start: value, count: count), on: frame?.pointee.hd.stream_id) ?? 0
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, _, id, data, count, me in
      HTTP2Exchange.from(me)?.received(data: UnsafeRawBufferPointer(start: data, count: count), on: id) ?? 0
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, me in
      if let frame { HTTP2Exchange.from(me)?.received(frame: frame.pointee.hd) }
      return 0
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, me in
      HTTP2Exchange.from(me)?.closed(stream: id, code: code)
      return 0
    }
    var made: OpaquePointer?
    // SAFETY: unretained: the session dies in this object's deinit, so it never outlives what it points to.
    try check(nghttp2_session_client_new(&made, callbacks, Unmanaged.passUnretained(self).toOpaque()))
    return made
  }

  private func submit(_ headers: [(String, String)]) throws(RPCError) {
    var provider = nghttp2_data_provider()
    provider.read_callback = { _, _, buffer, room, flags, _, me in
      guard let exchange = HTTP2Exchange.from(me), let buffer, let flags else {
        return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
      }
      return exchange.copyBody(into: UnsafeMutableBufferPointer(start: buffer, count: room), flags: flags)
    }
    // One arena for all texts, so that no pointer into a Swift string outlives its call.
    var arena: [UInt8] = []
    for (name, value) in headers {
      arena += name.utf8
      arena += value.utf8
    }
    // SAFETY: nghttp2 copies names and values before it returns (no NO_COPY flag is set), within the closure.
    let id = arena.withUnsafeMutableBufferPointer { memory -> Int32 in
      var next = memory.baseAddress
      var fields: [nghttp2_nv] = []
      for (name, value) in headers {
        let (nameLength, valueLength) = (name.utf8.count, value.utf8.count)
        fields.append(
          nghttp2_nv(
            name: next, value: next?.advanced(by: nameLength), namelen: nameLength, valuelen: valueLength, flags: 0))
        next = next?.advanced(by: nameLength + valueLength)
      }
      return nghttp2_submit_request(session, nil, fields, fields.count, &provider, nil)
    }
    try check(id)
    stream = id
  }

  private func check(_ result: Int32) throws(RPCError) {
    guard result < 0 else { return }
    let text = String(cString: nghttp2_strerror(result)).lowercased()
    throw RPCError(.exchange, RPCStatus(.internal, "http/2: \(text)"))
  }
}

// The callbacks. They store bytes and return: they never throw, wait or call back into the session.
extension HTTP2Exchange {
  private static func from(_ pointer: UnsafeMutableRawPointer?) -> HTTP2Exchange? {
    // SAFETY: the pointer is the one given to nghttp2_session_client_new, whose object is calling into the session.
    pointer.map { Unmanaged<HTTP2Exchange>.fromOpaque($0).takeUnretainedValue() }
  }

  private func copyBody(into buffer: UnsafeMutableBufferPointer<UInt8>, flags: UnsafeMutablePointer<UInt32>) -> Int {
    let piece = body[bodySent...].prefix(buffer.count)
    _ = buffer.update(fromContentsOf: piece)
    bodySent += piece.count
    if isRequestSent { flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
    return piece.count
  }

  private func received(
    header name: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>, on id: Int32?
  ) -> Int32 {
    guard id == stream else { return 0 }
    response.add(header: name, value: value)
    return response.failure == nil ? 0 : Int32(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
  }

  private func received(data: UnsafeRawBufferPointer, on id: Int32) -> Int32 {
    guard id == stream else { return 0 }
    response.add(data: data)
    return response.failure == nil ? 0 : Int32(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
  }

  private func received(frame: nghttp2_frame_hd) {
    if frame.type == UInt8(NGHTTP2_GOAWAY.rawValue) { isGoingAway = true }
    if frame.stream_id == stream, frame.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 {
      response.end()
    }
  }

  private func closed(stream id: Int32, code: UInt32) {
    guard id == stream else { return }
    response.end(resetCode: code)
  }
}
