// SPDX-License-Identifier: Apache-2.0

internal import CNettle

/// Digests by nettle. Each call takes the whole message; none fails.
package enum Digest {
  /// 20 bytes. Only for names: SHA-1 is not secure. Source: FIPS 180-4.
  package static func sha1(_ message: [UInt8]) -> [UInt8] {
    var state = sha1_ctx()
    nettle_sha1_init(&state)
    nettle_sha1_update(&state, message.count, message)
    return [UInt8](unsafeUninitializedCapacity: Int(SHA1_DIGEST_SIZE)) { buffer, count in
      nettle_sha1_digest(&state, buffer.count, buffer.baseAddress)
      count = buffer.count
    }
  }

  /// 32 bytes. Source: FIPS 180-4.
  package static func sha256(_ message: [UInt8]) -> [UInt8] {
    var state = sha256_ctx()
    nettle_sha256_init(&state)
    nettle_sha256_update(&state, message.count, message)
    return [UInt8](unsafeUninitializedCapacity: Int(SHA256_DIGEST_SIZE)) { buffer, count in
      nettle_sha256_digest(&state, buffer.count, buffer.baseAddress)
      count = buffer.count
    }
  }

  /// 64 bytes. Source: FIPS 180-4.
  package static func sha512(_ message: [UInt8]) -> [UInt8] {
    var state = sha512_ctx()
    nettle_sha512_init(&state)
    nettle_sha512_update(&state, message.count, message)
    return [UInt8](unsafeUninitializedCapacity: Int(SHA512_DIGEST_SIZE)) { buffer, count in
      nettle_sha512_digest(&state, buffer.count, buffer.baseAddress)
      count = buffer.count
    }
  }

  /// 32 bytes. Source: RFC 2104.
  package static func hmacSHA256(_ message: [UInt8], key: [UInt8]) -> [UInt8] {
    var state = hmac_sha256_ctx()
    nettle_hmac_sha256_set_key(&state, key.count, key)
    nettle_hmac_sha256_update(&state, message.count, message)
    return [UInt8](unsafeUninitializedCapacity: Int(SHA256_DIGEST_SIZE)) { buffer, count in
      nettle_hmac_sha256_digest(&state, buffer.count, buffer.baseAddress)
      count = buffer.count
    }
  }
}
