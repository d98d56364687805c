// SPDX-License-Identifier: Apache-2.0

/// The probe's flags, in Go's spelling: `-name value`, `-name=value`, with one dash or two.
struct HealthOptions: Equatable {
  var address = ""
  var service = ""
  var userAgent = "grpc-health-probe"
  var connectTimeout: Duration = .seconds(1)
  var rpcTimeout: Duration = .seconds(1)
  var isVerbose = false

  /// What is wrong with the arguments.
  struct Problem: Error, Equatable {
    let text: String
    /// The list of flags helps.
    var showsUsage = false
  }

  static let usage = """
    Usage of health:
      -addr string
        	(required) host:port or unix:///path to connect
      -connect-timeout duration
        	timeout for establishing connection (default 1s)
      -rpc-timeout duration
        	timeout for health check rpc (default 1s)
      -service string
        	service name to check (default: "")
      -user-agent string
        	user-agent header value of health check requests (default "grpc-health-probe")
      -v	verbose logs

    """

  init() {}

  /// Source: Go's flag package; reading ends at `--` and at the first argument without a dash.
  init(_ arguments: [String]) throws(Problem) {
    var rest = arguments[...]
    while let argument = rest.first, argument.hasPrefix("-"), argument != "-" {
      rest = rest.dropFirst()
      if argument == "--" { break }
      let body = argument.dropFirst(argument.hasPrefix("--") ? 2 : 1)
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      guard Self.names.contains(name) else {
        let text = name == "h" || name == "help" ? "help asked for" : "flag provided but not defined: -\(name)"
        throw Problem(text: text, showsUsage: true)
      }
      var value = parts.count > 1 ? String(parts[1]) : nil
      if value == nil {
        if name == "v" {
          value = "true"
        } else {
          guard let next = rest.popFirst() else {
            throw Problem(text: "flag needs an argument: -\(name)", showsUsage: true)
          }
          value = next
        }
      }
      try set(name, value ?? "")
    }
    if address.isEmpty { throw Problem(text: "error: --addr not specified") }
    for (name, value) in [("connect-timeout", connectTimeout), ("rpc-timeout", rpcTimeout)] where value <= .zero {
      let given = GoDuration.text(value)
      throw Problem(text: "error: --\(name) must be greater than zero (specified: \(given))")
    }
  }

  private static let names: Set<String> = ["addr", "service", "user-agent", "connect-timeout", "rpc-timeout", "v"]

  private mutating func set(_ name: String, _ value: String) throws(Problem) {
    switch name {
    case "addr": address = value
    case "service": service = value
    case "user-agent": userAgent = value
    case "connect-timeout": connectTimeout = try Self.duration(name, value)
    case "rpc-timeout": rpcTimeout = try Self.duration(name, value)
    default:
      guard let flag = Self.booleans[value] else {
        throw Problem(text: "invalid boolean value \"\(value)\" for -\(name)", showsUsage: true)
      }
      isVerbose = flag
    }
  }

  private static func duration(_ name: String, _ value: String) throws(Problem) -> Duration {
    guard let duration = GoDuration.parse(value) else {
      throw Problem(text: "invalid value \"\(value)\" for flag -\(name): parse error", showsUsage: true)
    }
    return duration
  }

  /// Source: Go's strconv.ParseBool.
  private static let booleans: [String: Bool] = [
    "1": true, "t": true, "T": true, "TRUE": true, "true": true, "True": true,
    "0": false, "f": false, "F": false, "FALSE": false, "false": false, "False": false,
  ]
}
