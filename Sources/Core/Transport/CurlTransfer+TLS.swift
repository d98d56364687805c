// SPDX-License-Identifier: Apache-2.0

internal import CCurl

/// A request's TLS and HTTP version settings as libcurl options.
extension CurlTransfer {
  /// Adds no limits beyond the request's own.
  func prepareTLS(_ easy: UnsafeMutableRawPointer, _ settings: CurlTransport.Settings) -> CURLcode {
    guard let tls = request.tls else {
      guard let file = settings.certificateFile else { return CURLE_OK }
      return ccurl_easy_set_pointer(easy, CURLOPT_CAINFO, file)
    }
    var failed = CURLE_OK
    func set(_ code: CURLcode) { if failed == CURLE_OK { failed = code } }
    if let authorities = tls.authorities {
      // Debian's libcurl has a default CA folder; explicit authorities replace it.
      set(ccurl_easy_set_pointer(easy, CURLOPT_CAPATH, nil))
      set(CurlTransfer.set(authorities, easy, file: CURLOPT_CAINFO, blob: CURLOPT_CAINFO_BLOB))
      // From 7.87 on libcurl caches CA files for a day, too long for a CA rotation. Older versions do not know the
      // option and cache nothing.
      _ = ccurl_easy_set_long(easy, CURLOPT_CA_CACHE_TIMEOUT, 0)
    }
    if let identity = tls.identity {
      set(CurlTransfer.set(identity.certificate, easy, file: CURLOPT_SSLCERT, blob: CURLOPT_SSLCERT_BLOB))
      set(CurlTransfer.set(identity.key, easy, file: CURLOPT_SSLKEY, blob: CURLOPT_SSLKEY_BLOB))
    }
    if !tls.verifiesServer {
      set(ccurl_easy_set_long(easy, CURLOPT_SSL_VERIFYPEER, 0))
      set(ccurl_easy_set_long(easy, CURLOPT_SSL_VERIFYHOST, 0))
    }
    return failed
  }

  private static func set(
    _ pem: HTTPTLS.PEM, _ easy: UnsafeMutableRawPointer, file: CURLoption, blob: CURLoption
  ) -> CURLcode {
    switch pem {
    case .file(let path): ccurl_easy_set_pointer(easy, file, path)
    case .bytes(let bytes): ccurl_easy_set_blob(easy, blob, bytes, bytes.count)
    }
  }

  /// Milliseconds in which the peer must acknowledge sent data, or a shared connection is closed.
  private static let silence: UInt32 = 20_000

  func prepareVersion(_ easy: UnsafeMutableRawPointer) -> CURLcode {
    if request.allowsHTTP2 {
      // Many requests share the connection, and a single timeout does not close it: a dead connection must close by
      // itself, or all later requests would be sent into it for a quarter of an hour.
      let bounded = ccurl_easy_limit_silence(easy, CurlTransfer.silence)
      guard bounded == CURLE_OK else { return bounded }
      // Refused by a libcurl without HTTP/2: then it is HTTP/1.1.
      let code = ccurl_easy_set_long(easy, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS))
      // Wait for a pending connection instead of opening another.
      if code == CURLE_OK { return ccurl_easy_set_long(easy, CURLOPT_PIPEWAIT, 1) }
    }
    return ccurl_easy_set_long(easy, CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
  }
}
