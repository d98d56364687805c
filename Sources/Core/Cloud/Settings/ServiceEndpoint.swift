// SPDX-License-Identifier: Apache-2.0

internal import VPCTransport

/// The AWS services in use, by their host names, which are also used in signatures.
package enum AWSService: String, Sendable, Hashable {
  case ec2
  case sts
  case cloudWatch = "monitoring"

  /// The last word of its AWS_ENDPOINT_URL_… variable.
  var variableSuffix: String {
    switch self {
    case .ec2: "EC2"
    case .sts: "STS"
    case .cloudWatch: "CLOUDWATCH"
    }
  }
}

/// A service's endpoint, and the region for signing.
package struct ServiceEndpoint: Sendable, Hashable {
  package let service: AWSService
  package let region: String
  package let url: EndpointURL

  package init(service: AWSService, region: String, url: EndpointURL) {
    self.service = service
    self.region = region
    self.url = url
  }

  package var signer: SigV4Signer { SigV4Signer(region: region, service: service.rawValue) }

  /// Chooses the endpoint of a service.
  ///
  /// A custom endpoint comes first: AWS_ENDPOINT_URL_EC2, …_STS or …_CLOUDWATCH, then AWS_ENDPOINT_URL (both left out
  /// with AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true), then for EC2 AWS_EC2_ENDPOINT of amazon-vpc-cni-k8s. Otherwise the
  /// region's partition gives the name, in the form required by AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT.
  /// - Throws: `InvalidSetting` for an invalid URL or region, and for a switch together with a custom endpoint, as in
  ///   the AWS SDKs. Source: the endpoint rules of EC2, STS and CloudWatch in the AWS SDKs.
  package static func resolve(
    _ service: AWSService, region: String, environment: CloudEnvironment
  ) throws(InvalidSetting) -> ServiceEndpoint {
    guard AWSPartition.isRegion(region) else {
      throw InvalidSetting(name: "AWS_REGION", value: region, expected: "a region's name")
    }
    let fips = try environment.flag("AWS_USE_FIPS_ENDPOINT")
    let dualStack = try environment.flag("AWS_USE_DUALSTACK_ENDPOINT")
    if let (name, text) = try custom(service, environment) {
      guard let url = EndpointURL(text) else {
        throw InvalidSetting(name: name, value: HTTPError.redacted(text), expected: "an http or https URL")
      }
      if fips || dualStack {
        let flag = fips ? "AWS_USE_FIPS_ENDPOINT" : "AWS_USE_DUALSTACK_ENDPOINT"
        throw InvalidSetting(name: flag, value: "true", expected: "possible together with \(name)")
      }
      return ServiceEndpoint(service: service, region: region, url: url)
    }
    let host = AWSPartition(region: region).host(service, region: region, fips: fips, dualStack: dualStack)
    guard let url = EndpointURL("https://\(host)") else {
      throw InvalidSetting(name: "AWS_REGION", value: region, expected: "a region's name")
    }
    return ServiceEndpoint(service: service, region: region, url: url)
  }

  private static func custom(
    _ service: AWSService, _ environment: CloudEnvironment
  ) throws(InvalidSetting) -> (name: String, text: String)? {
    var names = ["AWS_ENDPOINT_URL_\(service.variableSuffix)", "AWS_ENDPOINT_URL"]
    if try environment.flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") { names = [] }
    if service == .ec2 { names.append("AWS_EC2_ENDPOINT") }
    for name in names {
      if let text = environment[name] { return (name, text) }
    }
    return nil
  }
}

/// A group of regions that share DNS names.
struct AWSPartition {
  private let suffix: String
  private let dualStackSuffix: String
  private let isGovCloud: Bool

  /// An unknown region counts as one of the commercial partition, as in the AWS SDKs.
  init(region: String) {
    let row = AWSPartition.table.first { region.hasPrefix($0.prefix) }
    suffix = row?.suffix ?? "amazonaws.com"
    dualStackSuffix = row?.dualStackSuffix ?? "api.aws"
    isGovCloud = row?.prefix == "us-gov-"
  }

  private static let table: [(prefix: String, suffix: String, dualStackSuffix: String)] = [
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("us-gov-", "amazonaws.com", "api.aws"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
  ]

  func host(_ service: AWSService, region: String, fips: Bool, dualStack: Bool) -> String {
    // GovCloud's ordinary names are its FIPS names, for CloudWatch in both forms.
    let isFIPSAnyway = isGovCloud && (!dualStack || service == .cloudWatch)
    let name = fips && !isFIPSAnyway ? "\(service.rawValue)-fips" : service.rawValue
    return "\(name).\(region).\(dualStack ? dualStackSuffix : suffix)"
  }

  /// A host label: a region's name must be one, since it becomes part of a host name.
  static func isRegion(_ text: String) -> Bool {
    (2...40).contains(text.utf8.count) && text.utf8.first != 45 && text.utf8.last != 45
      && text.utf8.allSatisfy { 97...122 ~= $0 || 48...57 ~= $0 || $0 == 45 }
  }
}

extension CloudEnvironment {
  /// AWS_REGION, else AWS_DEFAULT_REGION; nil if neither is set: ask the instance metadata then.
  package var region: String? { self["AWS_REGION"] ?? self["AWS_DEFAULT_REGION"] }
}
