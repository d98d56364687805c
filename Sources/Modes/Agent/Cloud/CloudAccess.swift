// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// The clients of IMDS, STS and EC2, over one transport and one set of credentials.
struct CloudAccess: Sendable {
  let imds: IMDSClient
  private let environment: CloudEnvironment
  private let transport: CurlTransport
  private let credentials: CredentialsProvider
  private let userAgent: String
  private let observer: @Sendable (EC2Client.Observation) -> Void
  /// HTTP_TIMEOUT, of one request to EC2 or STS.
  private let timeout: Duration

  /// - Parameter observer: told of every request to EC2.
  /// - Throws: `InvalidSetting` for an endpoint or switch that cannot be used.
  init(
    environment variables: [String: String], settings: Settings,
    observer: @escaping @Sendable (EC2Client.Observation) -> Void = { _ in }
  ) throws(InvalidSetting) {
    self.observer = observer
    let environment = CloudEnvironment(variables)
    let transport = CurlTransport(
      settings: CurlTransport.Settings(
        certificateFile: environment["AWS_CA_BUNDLE"], proxy: ProxySettings(environment: variables)))
    let imds = IMDSClient(transport: transport, settings: try IMDSClient.Settings(environment: environment))
    let userAgent = "amazon-vpc-cni-k8s/\(settings.version)"
    self.environment = environment
    self.transport = transport
    self.imds = imds
    self.userAgent = userAgent
    let timeout = settings.httpTimeout
    self.timeout = timeout
    credentials = CredentialsProvider.standard(environment: environment, transport: transport, imds: imds) {
      () async throws(CredentialsError) -> STSClient in
      try await CloudAccess.sts(environment, transport, imds, userAgent: userAgent, timeout: timeout)
    }
  }

  /// - Parameter region: from IMDS; AWS_REGION and AWS_DEFAULT_REGION come before it.
  func ec2(region: String) throws(InvalidSetting) -> EC2Client {
    let endpoint = try ServiceEndpoint.resolve(
      .ec2, region: environment.region ?? region, environment: environment)
    return EC2Client(
      transport: transport, endpoint: endpoint, credentials: credentials, userAgent: userAgent, timeout: timeout,
      observer: observer)
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
