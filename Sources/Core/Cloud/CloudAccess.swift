// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
package import VPCTransport

/// The clients of IMDS, STS, EC2 and CloudWatch, over one transport and one set of credentials.
package struct CloudAccess: Sendable {
  package let imds: IMDSClient
  private let environment: CloudEnvironment
  package let transport: CurlTransport
  private let credentials: CredentialsProvider
  private let userAgent: String
  private let timeout: Duration
  private let observer: @Sendable (EC2Client.Observation) -> Void

  /// - Parameters:
  ///   - userAgent: `amazon-vpc-cni-k8s/VERSION`.
  ///   - timeout: of one request to EC2, STS or CloudWatch (HTTP_TIMEOUT).
  ///   - observer: notified of every request to EC2.
  ///   - credentials: notified when expired credentials are used, and when that ends.
  ///   - adjust: tightens the IMDS limits for interactive tools.
  /// - Throws: `InvalidSetting` for an endpoint or switch that cannot be used.
  package init(
    environment variables: [String: String], userAgent: String, timeout: Duration,
    observer: @escaping @Sendable (EC2Client.Observation) -> Void = { _ in },
    credentials noticed: @escaping @Sendable (CredentialsProvider.Notice) -> Void = { _ in },
    adjust: (inout IMDSClient.Settings) -> Void = { _ in }
  ) throws(InvalidSetting) {
    self.observer = observer
    let environment = CloudEnvironment(variables)
    let transport = CurlTransport(
      settings: CurlTransport.Settings(
        certificateFile: environment["AWS_CA_BUNDLE"], proxy: ProxySettings(environment: variables)))
    var limits = try IMDSClient.Settings(environment: environment)
    adjust(&limits)
    let imds = IMDSClient(transport: transport, settings: limits)
    self.environment = environment
    self.transport = transport
    self.imds = imds
    self.userAgent = userAgent
    self.timeout = timeout
    credentials = CredentialsProvider.standard(
      environment: environment, transport: transport, imds: imds, observer: noticed
    ) { () async throws(CredentialsError) -> STSClient in
      try await CloudAccess.sts(environment, transport, imds, userAgent: userAgent, timeout: timeout)
    }
  }

  /// AWS_REGION or AWS_DEFAULT_REGION; nil if IMDS must be asked.
  package var configuredRegion: String? { environment.region }

  /// - Parameter region: from IMDS; AWS_REGION and AWS_DEFAULT_REGION take precedence.
  package func ec2(region: String) throws(InvalidSetting) -> EC2Client {
    let endpoint = try ServiceEndpoint.resolve(
      .ec2, region: environment.region ?? region, environment: environment)
    return EC2Client(
      transport: transport, endpoint: endpoint, credentials: credentials, userAgent: userAgent, timeout: timeout,
      observer: observer)
  }

  /// - Parameter region: as for `ec2`.
  package func cloudWatch(region: String) throws(InvalidSetting) -> CloudWatchClient {
    let endpoint = try ServiceEndpoint.resolve(
      .cloudWatch, region: environment.region ?? region, environment: environment)
    return CloudWatchClient(
      transport: transport, endpoint: endpoint, credentials: credentials, userAgent: userAgent, timeout: timeout)
  }

  private static func sts(
    _ environment: CloudEnvironment, _ transport: CurlTransport, _ imds: IMDSClient, userAgent: String,
    timeout: Duration
  ) async throws(CredentialsError) -> STSClient {
    do {
      var region = environment.region
      if region == nil { region = try await imds.instanceIdentity().region }
      let endpoint = try ServiceEndpoint.resolve(.sts, region: region ?? "", environment: environment)
      return STSClient(transport: transport, endpoint: endpoint, userAgent: userAgent, timeout: timeout)
    } catch {
      throw CredentialsError(.unreachable, source: "STS", detail: "its endpoint is not known", cause: error)
    }
  }
}
