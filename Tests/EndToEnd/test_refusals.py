"""Refusals by EC2, real or likely: limits below the type's limit, EC2's own messages, expired credentials and wrong clocks."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest

from harness import paths
from harness.fast_clock import SkewedClock
from harness.node import Node
from harness.pod import PluginFailure
from harness.waiting import wait_for
from simulator.client import Simulator

SIMULATOR = {"verify_signatures": True}
WORDS = "with an explicit deny in a service control policy"


def refusal(node: Node, name: str) -> str:
    """The text in the event of a pod that gets no address."""
    with pytest.raises(PluginFailure) as failure:
        node.pod(name).add()
    return str(failure.value.error["msg"] + " " + failure.value.error.get("details", ""))


def status(node: Node) -> dict[str, Any]:
    return json.loads(node.instance.run([str(paths.BINARY), "status", "--json"]).stdout)


def test_volumes_take_the_slots_of_enis(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """AttachmentLimitExceeded below the type's limit: the pod's event names it, and an idle node does not retry again and
    again. Once a volume is detached, the next try notices it."""
    node = make_node("volumes", type="m5.large", subnet="a", fast_clock=True, environment={"HTTP_TIMEOUT": "600"})
    vpc.ask("volumes", instance="volumes", count=2)  # of three slots
    node.agent.start()
    node.add_pods(9)
    node.wait_quiet()
    said = refusal(node, "tenth")
    assert "EC2 refuses to attach more ENIs (AttachmentLimitExceeded): 1 attached, the instance type allows 3" in said
    assert "EBS volumes" in said and "EC2 says: Interface count 2 exceeds the limit for m5.large" in said
    assert status(node)["pool"]["blockedCause"] == "attachment_limit"
    vpc.counts(reset=True)
    clock = node.agent.clock
    assert clock is not None
    with node.hurry(120):
        until = clock.elapsed() + 1800
        wait_for(lambda: clock.elapsed() > until, "half an hour", 60, pause=0.25)
    calls = node.calls()
    assert sum(calls.values()) <= 20, calls
    assert calls.get("AttachNetworkInterface", 0) == calls.get("DeleteNetworkInterface", 0), "nothing is left behind"
    vpc.ask("volumes", instance="volumes", count=0)
    with node.hurry(240):
        wait_for(lambda: len(node.enis()) > 1, "another ENI once there is a slot", 60)
    node.wait_quiet()
    node.add_pods(1, prefix="later")


def test_ec2s_own_words_are_told(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """The log, the status and the pod's event name the policy that refuses; only the log has the
    message that only an administrator can decode."""
    node = make_node("words", type="m5.large", subnet="a")
    vpc.fault("CreateNetworkInterface", times=-1, http=403, code="UnauthorizedOperation", caller="words",
              message="You are not authorized to perform this operation. User: u is not authorized to perform: "
                      f"ec2:CreateNetworkInterface on resource: r {WORDS}. Encoded authorization failure message: 4GIOHabc")
    node.agent.start()
    node.add_pods(9)
    said = refusal(node, "tenth")
    assert "missing permission ec2:CreateNetworkInterface" in said and WORDS in said, said
    assert "remove the deny" in said and "add it to the role" not in said, said
    assert "4GIOH" not in said
    log = node.agent.log()
    assert WORDS in log and "4GIOHabc" in log
    assert WORDS in node.instance.run([str(paths.BINARY), "status"]).stdout
    assert WORDS in node.instance.run([str(paths.BINARY), "doctor"], check=False).stdout


def test_expired_instance_credentials_are_tried(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """IMDS returns the old credentials while its own source is away, and EC2 accepts them: a fresh node starts and logs it."""
    node = make_node("expired", type="m5.large", subnet="a")
    # The real credentials, which EC2 accepts, with an expiration date in the past.
    url = "http://169.254.169.254/latest/"
    token = node.instance.run(["curl", "-sS", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60",
                               f"{url}api/token"]).stdout
    path = "meta-data/iam/security-credentials/vpcsim-node-role"
    held = json.loads(node.instance.run(["curl", "-sS", "-H", f"X-aws-ec2-metadata-token: {token}", f"{url}{path}"]).stdout)
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=10)
    held["Expiration"] = past.strftime("%Y-%m-%dT%H:%M:%SZ")
    vpc.fault(f"imds:/latest/{path}", times=-1, http=200, body=json.dumps(held), caller="expired")
    node.agent.start()
    node.add_pods(3)
    log = node.agent.log()
    assert log.count("AWS credentials have expired by this node's clock") == 1
    assert held["SecretAccessKey"] not in log and held["Token"] not in log


def test_two_calls_with_a_wrong_clock(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """The clock is 20 minutes off at the start, before chrony's first step: the first two calls go out together, EC2
    refuses both, and the agent retries both."""
    node = make_node("skewed", type="m5.large", subnet="a")
    node.agent.clock = SkewedClock(1200)
    for _ in range(3):
        node.instance.run(["sh", "-c", "rm -rf /run/aws-node /var/log/aws-routed-eni/ipamd.log"])
        node.agent.start()
        wait_for(lambda: "done" in node.agent.log(), "the first address")
        log = node.agent.log()
        assert "cannot list ENIs from EC2" not in log and "cannot list subnets from EC2" not in log
        node.agent.stop()
