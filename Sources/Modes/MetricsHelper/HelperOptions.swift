// SPDX-License-Identifier: Apache-2.0

/// The helper's flags, in Go's spelling: `--cloudwatch`, `--cloudwatch=false`, with one dash or two.
///
/// Source: cni-metrics-helper of amazon-vpc-cni-k8s, whose image calls it with `--cloudwatch=false`.
struct HelperOptions: Equatable {
  var cloudWatch = true
  var showsHelp = false

  /// What is wrong with the arguments.
  struct Problem: Error, Equatable {
    let text: String
  }

  static let usage = """
    usage: vpc-cni metrics-helper [--cloudwatch=BOOL]

      --cloudwatch   send to CloudWatch (default true); USE_CLOUDWATCH comes before it
      --help         this text

    Everything else is set by environment variables: docs/configuration.md.

    """

  init(_ arguments: [String]) throws(Problem) {
    for argument in arguments {
      guard argument.hasPrefix("-") else { throw Problem(text: "unexpected argument \"\(argument)\"") }
      let body = argument.dropFirst(argument.hasPrefix("--") ? 2 : 1)
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let value = parts.count > 1 ? String(parts[1]) : nil
      switch parts[0] {
      case "cloudwatch":
        guard let flag = Self.booleans[value ?? "true"] else {
          throw Problem(text: "--cloudwatch is \"\(value ?? "")\": allowed is true or false")
        }
        cloudWatch = flag
      case "help", "h": showsHelp = true
      default: throw Problem(text: "unknown flag \(argument.prefix(64)); --cloudwatch and --help are known")
      }
    }
  }

  /// Source: Go's strconv.ParseBool.
  private static let booleans: [String: Bool] = [
    "1": true, "t": true, "T": true, "TRUE": true, "true": true, "True": true,
    "0": false, "f": false, "F": false, "FALSE": false, "false": false, "False": false,
  ]
}
