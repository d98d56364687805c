"""The processing of every request: its form, filters, pages, buckets, faults, latency, denials, counts."""

from __future__ import annotations

import subprocess
import threading
import time
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.awsrequest import AWSRequest
from botocore.auth import SigV4Auth
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError
from botocore.parsers import ResponseParserError

from conftest import Account, refused, until
from simulator.channel import CommandError
from simulator.patience import patient


def raw(vpc, body: str, scope: str = "ec2", region: str = "us-west-2", sign: bool = True) -> tuple[int, str]:
    """Sends a hand-written request, signed like a client's."""
    request = AWSRequest("POST", vpc.ready["host_endpoint"] + "/", data=body.encode(),
                         headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"})
    operator = vpc.ready["operator"]
    if sign:
        SigV4Auth(Credentials(operator["AWS_ACCESS_KEY_ID"], operator["AWS_SECRET_ACCESS_KEY"]), scope, region).add_auth(request)
    plain = urllib.request.Request(request.url, data=body.encode(), headers=dict(request.headers))
    try:
        with urllib.request.urlopen(plain, timeout=patient(30)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("body,code", [
    ("Action=DescribeNetworkInterfaces&Version=2016-11-15&Nonsense=1", "UnknownParameter"),
    ("Action=AssignPrivateIpAddresses&Version=2016-11-15&SecondaryPrivateIpAddressCount=1", "MissingParameter"),
    ("Action=CreateNetworkInterface&Version=2016-11-15&SubnetId=s&SecondaryPrivateIpAddressCount=many", "InvalidParameterValue"),
    ("Action=Frobnicate&Version=2016-11-15", "InvalidAction"),
    ("Action=DescribeSubnets&Version=2011-01-01", "NoSuchVersion"),
])
def test_malformed_requests_are_refused(vpc, body, code):
    status, text = raw(vpc, body)
    assert status == 400 and f"<Code>{code}</Code>" in text and "<RequestID>" in text


def test_region_and_signature_must_be_there(vpc):
    assert raw(vpc, "Action=DescribeSubnets&Version=2016-11-15", region="eu-west-1")[0] == 401
    assert raw(vpc, "Action=DescribeSubnets&Version=2016-11-15", sign=False)[0] == 401


def test_request_ids_differ(ec2):
    ids = {ec2.describe_subnets()["ResponseMetadata"]["RequestId"] for _ in range(3)}
    assert len(ids) == 3


def test_oversized_requests_are_refused(vpc):
    status, _ = raw(vpc, "Action=DescribeSubnets&Version=2016-11-15&Filler=" + "x" * (2 << 20))
    assert status == 413


def test_filters(account: Account, node, vpc):
    interface, attachment = account.attach(node, Description="mine", TagSpecifications=[
        {"ResourceType": "network-interface", "Tags": [{"Key": "cluster", "Value": "c"}]}], SecondaryPrivateIpAddressCount=1)
    other = account.create("b")["NetworkInterfaceId"]

    def found(**filters: str) -> set[str]:
        listed = [{"Name": name.replace("__", ":").replace("_", "-").replace("--", "."), "Values": [value]}
                  for name, value in filters.items()]
        return {each["NetworkInterfaceId"] for each in account.client.describe_network_interfaces(Filters=listed)["NetworkInterfaces"]}

    primary = node.enis()[0]["eni"]
    assert found(status="available") == {other}
    assert found(description="min*") == {interface}
    assert found(tag__cluster="c") == {interface}
    assert found(tag_key="cluster") == {interface}
    assert found(subnet_id=account.subnet("b")) == {other}
    assert found(vpc_id=vpc.ready["vpc_id"]) == {primary, interface, other}
    for name, value, expected in [
        ("attachment.instance-id", node.instance_id, {primary, interface}), ("attachment.device-index", "1", {interface}),
        ("attachment.status", "attached", {primary, interface}), ("attachment.attachment-id", attachment, {interface}),
        ("addresses.private-ip-address", "192.168.64.6", {interface}), ("private-ip-address", "192.168.64.6", set()),
        ("ipv6-addresses.ipv6-address", "::1", set()), ("network-interface-id", other, {other}),
        ("group-id", vpc.ready["security_group"], {primary}),
    ]:
        answer = account.client.describe_network_interfaces(Filters=[{"Name": name, "Values": [value]}])
        assert {each["NetworkInterfaceId"] for each in answer["NetworkInterfaces"]} == expected, name
    refused("InvalidParameterValue", account.client.describe_network_interfaces, Filters=[{"Name": "nonsense", "Values": ["x"]}])
    zones = account.client.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-west-2b"]}])["Subnets"]
    assert [each["SubnetId"] for each in zones] == [account.subnet("b")]


def test_pages(account: Account):
    made = {account.create()["NetworkInterfaceId"] for _ in range(12)}
    sizes, seen, token = [], [], None
    while True:
        arguments = {"NextToken": token} if token else {}
        answer = account.client.describe_network_interfaces(MaxResults=5, **arguments)
        sizes.append(len(answer["NetworkInterfaces"]))
        seen += [each["NetworkInterfaceId"] for each in answer["NetworkInterfaces"]]
        token = answer.get("NextToken")
        if not token:
            break
    assert sizes == [5, 5, 2] and set(seen) == made and len(seen) == 12
    refused("InvalidParameterCombination", account.client.describe_network_interfaces, MaxResults=5, NetworkInterfaceIds=[seen[0]])
    refused("InvalidPaginationToken", account.client.describe_network_interfaces, MaxResults=5, NextToken="%%%")


def test_buckets_refuse_and_refill(account: Account, vpc):
    vpc.throttle(True)
    vpc.ask("bucket", action="DescribeSubnets", capacity=2, refill=0.5)
    account.client.describe_subnets()
    account.client.describe_subnets()
    error = refused("RequestLimitExceeded", account.client.describe_subnets)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert error.response["Error"]["Message"] == "Request limit exceeded."
    deadline = time.monotonic() + patient(30)
    while time.monotonic() < deadline:
        try:
            account.client.describe_subnets()
            break
        except ClientError:
            continue
    else:
        raise AssertionError("the bucket never refilled")
    row = vpc.counts()["actions"]["DescribeSubnets"]
    assert row["refused"] >= 1 and row["calls"] == row["successful"] + row["refused"] + row["failed"]


def test_the_sizes_of_the_buckets():
    from simulator.buckets import RequestBuckets

    now = [0.0]
    buckets = RequestBuckets(clock=lambda: now[0])
    buckets.switch(True)

    def burst(action: str, parameters: dict[str, str]) -> int:
        return next(number for number in range(1000) if not buckets.admit(action, parameters))

    assert burst("CreateNetworkInterface", {}) == 100
    assert burst("CreateTags", {}) == 100
    assert burst("AttachNetworkInterface", {}) == 50
    assert burst("DescribeNetworkInterfaces", {}) == 50
    assert burst("DescribeNetworkInterfaces", {"Filter.1.Name": "x"}) == 100
    assert burst("DescribeSubnets", {}) == 100
    now[0] += 1
    assert burst("CreateNetworkInterface", {}) == 5
    assert burst("CreateTags", {}) == 10
    assert burst("DescribeNetworkInterfaces", {}) == 10
    assert burst("DescribeNetworkInterfaces", {"MaxResults": "5"}) == 20


def test_a_fault_before_the_act_prevents_it(account: Account, vpc):
    vpc.fault("CreateNetworkInterface", code="Unavailable", message="busy", http=503, times=2)
    for _ in range(2):
        error = refused("Unavailable", account.create)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert account.client.describe_network_interfaces()["NetworkInterfaces"] == []
    account.create()


def test_a_fault_after_the_act_loses_the_answer(account: Account, vpc):
    vpc.fault("CreateNetworkInterface", when="after", code="InternalError", http=500)
    refused("InternalError", account.create, ClientToken="lost")
    listed = account.client.describe_network_interfaces()["NetworkInterfaces"]
    assert len(listed) == 1
    assert account.create(ClientToken="lost")["NetworkInterfaceId"] == listed[0]["NetworkInterfaceId"]


@pytest.mark.parametrize("when,done", [("before", False), ("after", True), ("answered", True)])
def test_a_fault_can_kill(account: Account, vpc, when, done):
    """The fault kills the process at exactly this step of a call, as a crash would."""
    victim = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    vpc.fault("CreateNetworkInterface", when=when, kill=victim.pid)
    if when == "answered":
        account.create()
    else:
        with pytest.raises(ConnectionClosedError):
            account.create()
    assert victim.wait(timeout=patient(30)) == -9
    assert len(account.client.describe_network_interfaces()["NetworkInterfaces"]) == int(done)


def test_a_call_that_a_fault_holds_is_under_way(account: Account, vpc):
    vpc.fault("CreateNetworkInterface", delay=2, only_delay=True)
    assert vpc.ask("fault.met") == []
    call = threading.Thread(target=account.create)
    call.start()
    while vpc.ask("fault.list"):
        pass
    assert [fault["action"] for fault in vpc.ask("fault.met")] == ["CreateNetworkInterface"]
    call.join()
    assert vpc.ask("fault.met") == []


def test_what_a_fault_may_not_be(vpc):
    for fields in ({"when": "later"}, {"when": "answered"}, {"kill": 1}, {"kill": -5}):
        with pytest.raises(CommandError):
            vpc.fault("CreateNetworkInterface", **fields)


def test_faults_on_the_wire(account: Account, vpc):
    vpc.fault("DescribeSubnets", drop=True)
    with pytest.raises(ConnectionClosedError):
        account.client.describe_subnets()
    vpc.fault("DescribeSubnets", body="<html>not XML", http=200)
    with pytest.raises(Exception):
        account.client.describe_subnets()
    vpc.fault("DescribeSubnets", size=4096, truncate=100, http=200)
    with pytest.raises((ConnectionClosedError, ResponseStreamingError, ResponseParserError)):
        account.client.describe_subnets()
    account.client.describe_subnets()


def test_latency(account: Account, vpc):
    vpc.latency("Describe*", 2)
    threads = [threading.Thread(target=vpc.ec2().describe_subnets) for _ in range(5)]
    before = time.monotonic()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 2 <= time.monotonic() - before < 8, "all at the same time: one after the other they take 10 s"
    vpc.latency("Describe*", 0)
    before = time.monotonic()
    account.client.describe_subnets()
    assert time.monotonic() - before < 2


def test_a_denied_action(account: Account, vpc):
    vpc.deny("CreateNetworkInterface")
    error = refused("UnauthorizedOperation", account.create)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert "ec2:CreateNetworkInterface" in error.response["Error"]["Message"]
    vpc.allow("CreateNetworkInterface")
    account.create()


@pytest.mark.parametrize("action", ["describe_instance_types", "describe_subnets", "describe_network_interfaces",
                                    "describe_security_groups", "describe_vpcs"])
def test_a_question_on_trial_is_not_answered(account: Account, action: str):
    refused("DryRunOperation", getattr(account.client, action), DryRun=True)


def test_counts(account: Account, vpc):
    vpc.counts(reset=True)
    account.create()
    refused("InvalidNetworkInterfaceID.NotFound", account.client.delete_network_interface, NetworkInterfaceId="eni-0")
    report = vpc.counts(reset=True)
    assert report["actions"]["CreateNetworkInterface"]["successful"] == 1
    assert report["actions"]["DeleteNetworkInterface"] == {
        "calls": 1, "successful": 0, "refused": 0, "failed": 1, "errors": {"InvalidNetworkInterfaceID.NotFound": 1}}
    assert report["callers"]["host"] == {"CreateNetworkInterface": 1, "DeleteNetworkInterface": 1}
    assert vpc.counts()["total"] == 0


def test_a_call_that_is_being_answered_is_told(account: Account, vpc):
    vpc.latency("DescribeSubnets", 1)
    caller = threading.Thread(target=account.client.describe_subnets)
    caller.start()
    try:
        until(lambda: vpc.counts()["running"] == {"host": 1})
    finally:
        caller.join()
        vpc.latency("DescribeSubnets", 0)
    until(lambda: vpc.counts()["running"] == {})


def test_other_services_answer_on_the_same_endpoint(vpc):
    vpc.ec2("cloudwatch").put_metric_data(Namespace="Kubernetes", MetricData=[{"MetricName": "m", "Value": 1.0}])
    assert vpc.ec2("cloudwatch").list_metrics(Namespace="Kubernetes")["Metrics"][0]["MetricName"] == "m"
    assert vpc.ec2("sts").get_caller_identity()["Account"] == "123456789012"
    from botocore import UNSIGNED

    client = boto3.client("sts", endpoint_url=vpc.ready["host_endpoint"], region_name="us-west-2",
                          config=Config(signature_version=UNSIGNED))
    answer = client.assume_role_with_web_identity(RoleArn=vpc.ready["role_arn"], RoleSessionName="pod", WebIdentityToken="t" * 20)
    assert answer["Credentials"]["SessionToken"]
    assert vpc.counts()["actions"]["sts:AssumeRoleWithWebIdentity"]["successful"] == 1


def test_connections_are_kept(vpc):
    import http.client

    connection = http.client.HTTPConnection(vpc.ready["host_endpoint"].removeprefix("http://"), timeout=patient(30))
    ports = set()
    for _ in range(3):
        connection.request("POST", "/", body="Action=DescribeSubnets&Version=2016-11-15")
        ports.add(connection.sock.getsockname()[1])
        assert connection.getresponse().read()
    assert len(ports) == 1
