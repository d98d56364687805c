// SPDX-License-Identifier: Apache-2.0

/// Names of fields, variables and options that indicate a secret.
enum SecretNames {
  /// Parts of a name, letters and digits alone, in lower case.
  private static let parts: [[UInt8]] = [
    "password", "passwd", "passphrase", "secret", "token", "credential", "apikey", "accesskey", "accountkey",
    "privatekey",
    "clientkey", "presharedkey", "sessionkey", "signingkey", "encryptionkey", "authorization", "signature", "cookie",
    "connectionstring", "userdata", "masterkey", "hostkey", "sshkey", "deploykey", "storagekey", "licensekey",
    "hmackey",
  ].map { Array($0.utf8) }

  /// Whole names, written in the same way.
  private static let names: Set<[UInt8]> = Set(
    ["auth", "pwd", "pass", "psk", "sig", "pgpassword", "bearer", "privkey", "secretaccesskey", "xauth", "httpauth"]
      .map { Array($0.utf8) })

  /// Ends of names: `DB_PASS`, `ADMIN_PWD`.
  private static let shortEnds: [[UInt8]] = ["pass", "pwd"].map { Array($0.utf8) }
  private static let bypass = Array("bypass".utf8)

  /// Suffixes of names about a secret that is not in the value.
  private static let harmlessEnds: [[UInt8]] = [
    "file", "path", "dir", "name", "names", "seconds", "ttl", "timeout", "expiry", "expiration", "expires", "count",
    "limit", "type", "enabled", "mode", "arn", "hoplimit", "size", "endpoint", "version", "driver", "provider",
    "policy",
    "status", "errors", "total", "interval", "syncookies", "wait", "echoed",
  ].map { Array($0.utf8) }

  /// - Parameter name: verbatim; only its last 64 letters and digits are used.
  static func isSecret(_ name: ArraySlice<UInt8>) -> Bool {
    let word = word(name)
    guard word.count >= 3 else { return false }
    if names.contains(word) { return true }
    if parts.contains(where: { SecretShapes.holds(word[...], $0) }) {
      return !harmlessEnds.contains { word.ends(with: $0) }
    }
    return shortEnds.contains { word.ends(with: $0) } && !word.ends(with: bypass)
  }

  /// PWD and OLDPWD.
  static func isFolder(_ name: ArraySlice<UInt8>) -> Bool {
    name.elementsEqual("PWD".utf8) || name.elementsEqual("OLDPWD".utf8)
  }

  /// Headers of HTTP whose value goes to the end of the line.
  static func isHeader(_ name: ArraySlice<UInt8>) -> Bool {
    let word = word(name)
    return ["authorization", "cookie"].contains { word.ends(with: Array($0.utf8)) }
  }

  /// A name in the form that the tables have.
  static func word(_ name: ArraySlice<UInt8>) -> [UInt8] {
    var word: [UInt8] = []
    word.reserveCapacity(64)
    for byte in name.suffix(96) {
      switch byte {
      case 0x30...0x39, 0x61...0x7a: word.append(byte)
      case 0x41...0x5a: word.append(byte | 0x20)
      default: continue
      }
    }
    return word.count > 64 ? Array(word.suffix(64)) : word
  }
}

extension Array where Element == UInt8 {
  fileprivate func ends(with other: [UInt8]) -> Bool {
    count >= other.count && self[(count - other.count)...].elementsEqual(other)
  }
}
