#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes BotocoreVectors.swift: what botocore, AWS's own Python library, makes of the same requests.

Run with botocore installed: python3 Tests/Vectors/cloud.py > Tests/CloudTests/Data/BotocoreVectors.swift
"""

import datetime
import itertools
import json
import random

import botocore
import botocore.auth
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.endpoint_provider import EndpointProvider
from botocore.serialize import create_serializer

random.seed(1)


def quoted(text):
    return json.dumps(text, ensure_ascii=False).replace("\\/", "/")


def signatures():
    bodies = [
        "Action=DescribeInstances&Version=2016-11-15",
        "Action=CreateTags&ResourceId.1=eni-1&Tag.1.Key=a%20b&Tag.1.Value=%C3%BC&Version=2016-11-15",
        "",
        "Action=X&V=" + "y" * 3000,
    ]
    hosts = ["ec2.us-east-1.amazonaws.com", "127.0.0.1:5000", "[fd00::1]:8080"]
    paths = ["/", "/a%20b/c", "/?x=1&a=%2Fb&a=A&b"]
    for body, host, path in itertools.product(bodies, hosts, paths):
        region = random.choice(["us-east-1", "cn-north-1", "eu-central-2"])
        service = random.choice(["ec2", "sts"])
        token = random.choice([None, "FwoGZXIvYXdzE/+=="])
        seconds = random.randrange(946684800, 4102444800)
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
        botocore.auth.get_current_datetime = lambda remove_tzinfo=True: moment.replace(tzinfo=None)
        request = AWSRequest(
            "POST", f"https://{host}{path}", data=body,
            headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "User-Agent": "x/1"},
        )
        SigV4Auth(Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token), service, region).add_auth(request)
        authorization = request.headers["Authorization"]
        assert authorization
        yield (
            f"    Signature(url: {quoted(request.url)}, body: {quoted(body)}, region: {quoted(region)}, service: {quoted(service)}, "
            f"token: {quoted(token) if token else 'nil'}, seconds: {seconds}, authorization: {quoted(authorization)}),"
        )


def endpoints():
    regions = [
        "us-east-1", "eu-west-3", "me-central-1", "il-central-1", "mx-central-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1",
        "us-isob-east-1", "eu-isoe-west-1", "us-isof-south-1", "eusc-de-east-1", "zz-new-1",
    ]
    loader = botocore.session.get_session().get_component("data_loader")
    partitions = loader.load_data("partitions")
    for service, case in [("ec2", "ec2"), ("sts", "sts"), ("cloudwatch", "cloudWatch")]:
        provider = EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
        for region, fips, dual in itertools.product(regions, [False, True], [False, True]):
            url = provider.resolve_endpoint(Region=region, UseFIPS=fips, UseDualStack=dual).url
            yield (
                f"    Endpoint(service: .{case}, region: \"{region}\", fips: {str(fips).lower()}, "
                f"dualStack: {str(dual).lower()}, url: \"{url}\"),"
            )


REQUESTS = [
    ("DescribeNetworkInterfaces", {"NetworkInterfaceIds": ["eni-1", "eni-2"]}),
    ("DescribeNetworkInterfaces", {"Filters": [{"Name": "attachment.instance-id", "Values": ["i-1"]}], "MaxResults": 1000}),
    ("CreateNetworkInterface", {
        "SubnetId": "subnet-1", "Description": "aws-K8S-i-1", "Groups": ["sg-1", "sg-2"], "SecondaryPrivateIpAddressCount": 14,
        "TagSpecifications": [{"ResourceType": "network-interface", "Tags": [
            {"Key": "a b", "Value": "ü&="}, {"Key": "node.k8s.amazonaws.com/instance_id", "Value": "i-1"}]}],
        "ConnectionTrackingSpecification": {"TcpEstablishedTimeout": 350, "UdpStreamTimeout": 60, "UdpTimeout": 30},
        "ClientToken": "token"}),
    ("CreateNetworkInterface", {
        "SubnetId": "subnet-1", "Description": "d", "Groups": ["sg-1"], "Ipv4PrefixCount": 2, "Ipv6AddressCount": 1, "ClientToken": "t"}),
    ("AttachNetworkInterface", {"NetworkInterfaceId": "eni-1", "InstanceId": "i-1", "DeviceIndex": 2, "NetworkCardIndex": 1}),
    ("DetachNetworkInterface", {"AttachmentId": "eni-attach-1", "Force": True}),
    ("DeleteNetworkInterface", {"NetworkInterfaceId": "eni-1"}),
    ("ModifyNetworkInterfaceAttribute", {
        "NetworkInterfaceId": "eni-1", "Attachment": {"AttachmentId": "eni-attach-1", "DeleteOnTermination": True}}),
    ("ModifyNetworkInterfaceAttribute", {"NetworkInterfaceId": "eni-1", "Groups": ["sg-1", "sg-2"]}),
    ("AssignPrivateIpAddresses", {"NetworkInterfaceId": "eni-1", "SecondaryPrivateIpAddressCount": 3}),
    ("AssignPrivateIpAddresses", {"NetworkInterfaceId": "eni-1", "Ipv4PrefixCount": 1}),
    ("UnassignPrivateIpAddresses", {
        "NetworkInterfaceId": "eni-1", "PrivateIpAddresses": ["10.0.0.5", "10.0.0.6"], "Ipv4Prefixes": ["10.0.1.16/28"]}),
    ("AssignIpv6Addresses", {"NetworkInterfaceId": "eni-1", "Ipv6AddressCount": 2}),
    ("AssignIpv6Addresses", {"NetworkInterfaceId": "eni-1", "Ipv6PrefixCount": 1}),
    ("UnassignIpv6Addresses", {
        "NetworkInterfaceId": "eni-1", "Ipv6Addresses": ["2001:db8::5"], "Ipv6Prefixes": ["2001:db8:0:1::/80"]}),
    ("CreateTags", {"Resources": ["eni-1"], "Tags": [{"Key": "k", "Value": "v"}]}),
    ("DescribeInstances", {"InstanceIds": ["i-1"]}),
    ("DescribeInstanceTypes", {"InstanceTypes": ["m5.large"]}),
    ("DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-1"]}], "MaxResults": 1000}),
    ("DescribeSecurityGroups", {"Filters": [{"Name": "vpc-id", "Values": ["vpc-1"]}], "MaxResults": 1000}),
    ("DescribeTags", {"Filters": [
        {"Name": "resource-type", "Values": ["instance"]}, {"Name": "resource-id", "Values": ["i-1"]},
        {"Name": "key", "Values": ["eks:cluster-name", "Name"]}], "MaxResults": 1000}),
]

METRIC_DATA = {"Namespace": "Kubernetes", "MetricData": [
    {"MetricName": "addReqCount", "Dimensions": [{"Name": "CLUSTER_ID", "Value": "a b"}], "Value": 12.5, "Unit": "Count",
     "Timestamp": datetime.datetime(2026, 11, 24, 11, 0, 7, tzinfo=datetime.timezone.utc)},
    {"MetricName": "awsAPILatency", "Value": 1500000.0, "Unit": "Milliseconds", "Dimensions": [
        {"Name": "A", "Value": "1"}, {"Name": "B", "Value": "2"}],
     "Timestamp": datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)}]}


def fields_of(service, protocol, name, parameters):
    session = botocore.session.get_session()
    client = session.create_client(service, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    model = client.meta.service_model
    body = create_serializer(protocol).serialize_to_request(parameters, model.operation_model(name))["body"]
    return ", ".join(f"{quoted(key)}: {quoted(str(value))}" for key, value in sorted(body.items()))


def requests():
    for name, parameters in REQUESTS:
        yield f"    [{fields_of('ec2', 'ec2', name, parameters)}],"


def wrapped(lines):
    return "\n".join(lines)


print(f"""// SPDX-License-Identifier: Apache-2.0
//
// Written by Tests/Vectors/cloud.py with botocore {botocore.__version__}.
// swift-format-ignore-file

@testable import VPCCloud

enum BotocoreVectors {{
  struct Signature: Sendable {{
    let url: String
    let body: String
    let region: String
    let service: String
    let token: String?
    let seconds: Int64
    let authorization: String
  }}

  struct Endpoint: Sendable {{
    let service: AWSService
    let region: String
    let fips: Bool
    let dualStack: Bool
    let url: String
  }}

  static let signatures: [Signature] = [
{wrapped(signatures())}
  ]

  static let endpoints: [Endpoint] = [
{wrapped(endpoints())}
  ]

  /// Fields of one request each, in the order of EC2RequestTests.
  static let requests: [[String: String]] = [
{wrapped(requests())}
  ]

  /// Fields of a PutMetricData.
  static let metricData: [String: String] = [
    {fields_of("cloudwatch", "query", "PutMetricData", METRIC_DATA)}
  ]
}}""")
