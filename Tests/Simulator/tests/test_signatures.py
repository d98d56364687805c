"""Signatures, policies and expiry, checked by moto's IAM and STS."""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
import pytest
from botocore.config import Config

from conftest import refused, until
from simulator.client import Simulator


@pytest.fixture(scope="module")
def strict():
    with Simulator(verify_signatures=True) as simulator:
        simulator.add_instance("n1")
        yield simulator


def client(vpc: Simulator, key: str, secret: str, token: str | None = None, service: str = "ec2") -> Any:
    return boto3.client(service, endpoint_url=vpc.ready["host_endpoint"], region_name="us-west-2", aws_access_key_id=key,
                        aws_secret_access_key=secret, aws_session_token=token, config=Config(retries={"total_max_attempts": 1}))


def node_credentials(vpc: Simulator) -> dict[str, str]:
    script = ("T=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token);"
              "curl -sf -H \"X-aws-ec2-metadata-token: $T\" "
              "http://169.254.169.254/latest/meta-data/iam/security-credentials/vpcsim-node-role")
    return json.loads(vpc.instance("n1").run(["sh", "-ec", script]).stdout)


def node_client(vpc: Simulator, service: str = "ec2") -> Any:
    held = node_credentials(vpc)
    return client(vpc, held["AccessKeyId"], held["SecretAccessKey"], held["Token"], service)


def test_the_nodes_credentials_work_and_reach_only_what_its_policy_allows(strict):
    ec2 = node_client(strict)
    made = ec2.create_network_interface(SubnetId=strict.ready["subnets"]["a"], Description="a b&c=d/é",
                                        Ipv4PrefixCount=1)["NetworkInterface"]
    assert made["Description"] == "a b&c=d/é"
    assert len(ec2.describe_network_interfaces(Filters=[{"Name": "description", "Values": ["a b*"]}])["NetworkInterfaces"]) == 1
    error = refused("UnauthorizedOperation", ec2.create_vpc, CidrBlock="10.0.0.0/16")
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert node_client(strict, "sts").get_caller_identity()["Arn"].startswith("arn:aws:sts::123456789012:assumed-role/")
    node_client(strict, "cloudwatch").put_metric_data(Namespace="Kubernetes", MetricData=[{"MetricName": "m", "Value": 1.0}])


@pytest.mark.parametrize("spoil", ["key", "secret", "token", "no token"])
def test_a_wrong_signature_is_refused(strict, spoil):
    held = node_credentials(strict)
    key, secret, token = held["AccessKeyId"], held["SecretAccessKey"], held["Token"]
    if spoil == "key":
        key = "ASIA" + "X" * 16
    elif spoil == "secret":
        secret = secret[:-1] + ("a" if secret[-1] != "a" else "b")
    elif spoil == "token":
        token = token + "x"
    else:
        token = None
    error = refused("AuthFailure", client(strict, key, secret, token).describe_subnets)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 401


def test_other_services_refuse_it_in_their_words(strict):
    held = node_credentials(strict)
    refused("SignatureDoesNotMatch", client(strict, held["AccessKeyId"], "wrong", held["Token"], "sts").get_caller_identity)


def test_expired_credentials_are_refused_and_renewed_ones_work(strict):
    strict.ask("credentials.rotate", lifetime=5.0)
    old = node_client(strict)
    old.describe_subnets()
    until(lambda: not _works(old))
    refused("RequestExpired", old.describe_subnets)
    node_client(strict).describe_subnets()
    strict.ask("credentials.rotate", lifetime=3600)


def _works(ec2: Any) -> bool:
    try:
        ec2.describe_subnets()
    except ec2.exceptions.ClientError:
        return False
    return True


def test_a_stock_sdk_inside_an_instance_needs_two_addresses_only(strict):
    """The SDK finds region, credentials and endpoints as an agent does: through IMDS and AWS_ENDPOINT_URL."""
    program = ("import boto3; print(len(boto3.client('ec2').describe_subnets()['Subnets']));"
               "print(boto3.Session().get_credentials().method)")
    bare = ["env", "-u", "AWS_ACCESS_KEY_ID", "-u", "AWS_SECRET_ACCESS_KEY", "-u", "AWS_SESSION_TOKEN", "-u", "AWS_PROFILE"]
    strict.counts(reset=True)
    done = strict.instance("n1").run([*bare, sys.executable, "-c", program],
                                          env={"AWS_DEFAULT_REGION": "us-west-2"})
    assert done.stdout.split() == ["2", "iam-role"]
    assert strict.counts()["callers"] == {"n1": {"DescribeSubnets": 1}}
