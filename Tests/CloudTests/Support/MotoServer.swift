// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing

/// An independent EC2: moto, in a Python process of its own on a free port. It verifies signatures.
///
/// The process ends when its standard input closes, so it cannot outlive the test process.
final class MotoServer: Sendable {
  let url: String
  let accessKeyID: String
  let secretAccessKey: String
  let subnetID: String
  let securityGroupID: String
  let instanceID: String
  private let process: PeerProcess

  /// The Python that can import moto: VPC_CNI_TEST_PYTHON, else the first `python3` of the path. Nil if there is none.
  static let python: String? = {
    let candidates = [getenv("VPC_CNI_TEST_PYTHON").map { String(cString: $0) }, "python3"].compactMap { $0 }
    return candidates.first { (try? PeerProcess([$0, "-c", findModules], quiet: true).rest()) != nil }
  }()

  private static let findModules = """
    import importlib.util, sys
    sys.exit(not all(importlib.util.find_spec(name) for name in ("moto", "boto3", "flask", "flask_cors")))
    """

  private static let program = """
    import datetime, os, sys
    os.environ.update(AWS_ACCESS_KEY_ID="setup", AWS_SECRET_ACCESS_KEY="setup", AWS_DEFAULT_REGION="us-east-1")
    import boto3
    from moto import settings
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer
    import logging; logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://%s:%s" % server.get_host_and_port()
    ec2 = boto3.client("ec2", endpoint_url=url)
    iam = boto3.client("iam", endpoint_url=url)
    subnet = ec2.describe_subnets()["Subnets"][0]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=subnet["VpcId"])["GroupId"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet["SubnetId"],
        InstanceType="m5.large")["Instances"][0]["InstanceId"]
    ec2.create_tags(Resources=[instance], Tags=[{"Key": "eks:cluster-name", "Value": "moto"}, {"Key": "x", "Value": "y"}])
    iam.create_user(UserName="agent")
    iam.put_user_policy(UserName="agent", PolicyName="p", PolicyDocument=
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ec2:*","cloudwatch:*","monitoring:*"],"Resource":"*"}]}')
    key = iam.create_access_key(UserName="agent")["AccessKey"]
    from moto.core.authorization import ActionAuthenticatorMixin
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    ActionAuthenticatorMixin.request_count = 0
    print(url, key["AccessKeyId"], key["SecretAccessKey"], subnet["SubnetId"], group, instance, flush=True)
    watch = boto3.client("cloudwatch", endpoint_url=url, aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"])
    for line in sys.stdin:
        # NAMESPACE METRIC CLUSTER: its values, oldest first, with their units.
        namespace, metric, cluster = line.split()
        end = datetime.datetime.now(datetime.timezone.utc)
        query = {"Id": "q", "MetricStat": {"Period": 1, "Stat": "Sum", "Metric": {"Namespace": namespace,
            "MetricName": metric, "Dimensions": [{"Name": "CLUSTER_ID", "Value": cluster}]}}}
        found = watch.get_metric_data(MetricDataQueries=[query], StartTime=end - datetime.timedelta(minutes=10),
            EndTime=end + datetime.timedelta(minutes=1), ScanBy="TimestampAscending")["MetricDataResults"][0]
        print(*found["Values"], flush=True)
    os._exit(0)
    """

  /// Starts a server. This takes seconds, so it runs on a thread of its own: the tests share few threads.
  static func start() async throws -> MotoServer {
    try await TestThread.run { try MotoServer() }
  }

  /// The values of a metric in the last ten minutes, oldest first, read with GetMetricData.
  func metricValues(_ namespace: String, _ metric: String, cluster: String) async throws -> [Double] {
    try await TestThread.run { [process] in
      try process.say("\(namespace) \(metric) \(cluster)")
      return try process.line().split(separator: " ").compactMap { Double($0) }
    }
  }

  private init() throws {
    let python = try #require(MotoServer.python)
    process = try PeerProcess([python, "-c", MotoServer.program], quiet: true)
    let words = try process.line().split(separator: " ").map(String.init)
    try #require(words.count == 6, "moto did not start")
    url = words[0]
    accessKeyID = words[1]
    secretAccessKey = words[2]
    subnetID = words[3]
    securityGroupID = words[4]
    instanceID = words[5]
  }
}
