// SPDX-License-Identifier: Apache-2.0

/// Which proxy to use for which scheme, read once from the environment's variables.
///
/// libcurl would read the same variables by itself; the transport always overrides it.
package struct ProxySettings: Sendable, Hashable {
  /// URL of the proxy for `http` requests; nil for none.
  package var http: String?
  /// URL of the proxy for `https` requests; nil for none.
  package var https: String?
  /// Comma list of hosts, domains and (from libcurl 7.86) CIDRs that are reached directly.
  package var exceptions: String?

  package init(http: String? = nil, https: String? = nil, exceptions: String? = nil) {
    self.http = http
    self.https = https
    self.exceptions = exceptions
  }

  /// Reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY, each also in lower case; an empty value counts as unset.
  package init(environment: [String: String]) {
    func read(_ name: String) -> String? {
      for candidate in [name, name.lowercased()] {
        if let value = environment[candidate], !value.isEmpty { return value }
      }
      return nil
    }
    self.init(http: read("HTTP_PROXY"), https: read("HTTPS_PROXY"), exceptions: read("NO_PROXY"))
  }
}
