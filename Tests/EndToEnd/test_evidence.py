"""A start does not trust a single listing: it may be stale, incomplete, or from IMDS only."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

import pytest

from harness.node import Node
from harness.pod import Pod
from harness.state import listing
from harness.waiting import wait_for
from simulator.client import Simulator

PREFIXES = {"ENABLE_PREFIX_DELEGATION": "true"}
THROTTLED = {"http": 503, "code": "RequestLimitExceeded", "message": "Request limit exceeded."}
NO_MANAGE = "node.k8s.amazonaws.com/no_manage"


def without_prefix(body: str, prefix: str) -> str:
    cut = re.sub(r"<item>\s*<ipv4Prefix>" + re.escape(prefix) + r"</ipv4Prefix>\s*</item>", "", body)
    assert cut != body
    return cut


@pytest.fixture
def busy(vpc: Simulator, make_node: Callable[..., Node]) -> tuple[Node, dict[str, Any], str, list[Pod], Pod]:
    """A node with pods on a secondary ENI; that ENI, one of its prefixes, the pods in the prefix, and a pod elsewhere."""
    other = make_node("other", type="m5.large", subnet="a")
    other.agent.start()
    far = other.pod("far").add()
    node = make_node("node", type="t3.small", subnet="a", environment=PREFIXES)
    node.agent.start()
    pods = node.add_pods(52, at_once=4)
    node.wait_quiet()
    eni = next(each for each in node.enis() if each["index"] == 1)
    of = {prefix: [pod for pod in pods if ipaddress.ip_address(pod.address) in ipaddress.ip_network(prefix)]
          for prefix in eni["prefixes"]}
    prefix = next(prefix for prefix, users in of.items() if users)
    assert all(pod.ping(far.address) for pod in of[prefix])
    return node, eni, prefix, of[prefix], far


def assert_never_cut(node: Node, pods: list[Pod], far: Pod, settled: Callable[[], Any]) -> None:
    """Every echo is answered until the agent has resolved the question, and afterwards."""
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        cut = [pod.address for pod in pods if not pod.ping(far.address, deadline=1)]
        assert not cut, f"look {looks}: cut off: {cut}"
        return looks >= 3 and bool(settled())

    wait_for(look, "the question is settled", 60)


@pytest.mark.parametrize("times", [1, 2])
def test_a_stale_listing_of_ec2_cuts_nobody_off(vpc: Simulator, busy: Any, times: int) -> None:
    node, _, prefix, hit, far = busy
    vpc.fault("DescribeNetworkInterfaces", times=times, http=200, body=without_prefix(listing(vpc, node), prefix), caller="node")
    node.agent.stop()
    node.agent.start()
    known = lambda: prefix in node.instance.run(["curl", "-s", "http://127.0.0.1:61679/v1/enis"]).stdout  # noqa: E731
    assert_never_cut(node, hit, far, known)
    assert len(vpc.ask("fault.list")) == 0, "every stale answer was heard"
    assert "keeping their routes and asking EC2 again" in node.agent.log()


@pytest.mark.parametrize("what", ["prefix", "ENI"])
def test_an_incomplete_imds_cuts_nobody_off_while_ec2_is_silent(vpc: Simulator, busy: Any, what: str) -> None:
    node, eni, prefix, hit, far = busy
    tree = "imds:/latest/meta-data/network/interfaces/macs"
    vpc.fault("DescribeNetworkInterfaces", times=-1, caller="node", **THROTTLED)
    if what == "prefix":
        left = "\n".join(each for each in eni["prefixes"] if each != prefix)
        vpc.fault(f"{tree}/{eni['mac']}/ipv4-prefix", times=2, http=200 if left else 404, body=left or "no", caller="node")
    else:
        macs = "\n".join(f"{each['mac']}/" for each in node.enis() if each["eni"] != eni["eni"])
        vpc.fault(f"{tree}*", times=1, http=200, body=macs, caller="node")
    node.agent.stop()
    node.agent.start()
    assert_never_cut(node, hit, far, lambda: True)
    vpc.clear_faults()
    assert_never_cut(node, hit, far, lambda: prefix in node.instance.run(["curl", "-s", "http://127.0.0.1:61679/v1/enis"]).stdout)


def test_a_listing_without_the_primary_eni_makes_no_other(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """EC2 does not list a fresh instance's ENIs yet: IMDS knows the primary ENI, and pods get its addresses."""
    node = make_node("fresh", type="m5.large", subnet="a", environment={"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"})
    empty = re.sub(r"<networkInterfaceSet>.*</networkInterfaceSet>", "<networkInterfaceSet></networkInterfaceSet>",
                   listing(vpc, node), flags=re.S)
    vpc.fault("DescribeNetworkInterfaces", times=1, http=200, body=empty, caller="fresh")
    node.agent.start()
    pod = node.pod("first").add()
    assert [eni["index"] for eni in node.enis()] == [0]
    assert pod.address in node.enis()[0]["addresses"]


def test_an_excluded_eni_is_left_alone_while_ec2_is_silent(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """IMDS knows no tags: an ENI that nothing on the node vouches for counts towards the ENI limit, and
    the agent uses nothing else of it."""
    ec2, node = vpc.ec2(), make_node("tagged", type="m5.large", subnet="a")
    subnet = next(each["subnet_id"] for each in vpc.ask("subnets") if each["name"] == "a")
    eni = ec2.create_network_interface(SubnetId=subnet, Description="etcd", TagSpecifications=[
        {"ResourceType": "network-interface", "Tags": [{"Key": NO_MANAGE, "Value": "true"}]}])["NetworkInterface"]["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=eni, InstanceId=node.instance.instance_id, DeviceIndex=1)
    mine = lambda: next(each for each in node.enis() if each["eni"] == eni)  # noqa: E731
    node.instance.run(["sh", "-c", f"ip link set ens6 up; ip address add {mine()['primary']}/19 dev ens6; ip address add 10.99.99.99/32 dev ens6"])
    before = node.ip("address", "show", "dev", "ens6")[0]["addr_info"]
    vpc.fault("DescribeNetworkInterfaces", times=-1, caller="tagged", **THROTTLED)
    node.agent.start()
    pods = node.add_pods(14)
    assert mine()["addresses"] == [mine()["primary"]] and mine()["prefixes"] == []
    assert not any(pod.address in mine()["addresses"] for pod in pods)
    assert [each["local"] for each in node.ip("address", "show", "dev", "ens6")[0]["addr_info"]] == [each["local"] for each in before]
    vpc.clear_faults()
    wait_for(lambda: any(item["eni"] == eni for item in node.enis()), "the ENI is attached still")
    node.delete_pods()
    assert mine()["addresses"] == [mine()["primary"]]


def test_a_start_waits_for_ec2_or_imds_to_list(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """EC2 does not answer and IMDS fails for a moment: the agent asks both again and does not exit."""
    node = make_node("patient", type="m5.large", subnet="a")
    vpc.fault("DescribeNetworkInterfaces", times=-1, caller="patient", **THROTTLED)
    vpc.fault("imds:/latest/meta-data/network/interfaces/macs/", times=-1, http=500, message="busy", caller="patient")
    node.agent.start(wait=False)
    wait_for(lambda: "cannot list ENIs from IMDS either; will retry" in node.agent.log(), "both have failed", 40)
    assert node.agent.process is not None and node.agent.process.poll() is None
    vpc.clear_faults()
    wait_for(node.agent.ready_or_dead, "agent ready", 40)
    assert node.pod("one").add().address
