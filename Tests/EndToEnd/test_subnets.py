"""Subnets for new ENIs, security groups and the VPC's CIDRs that change while the agent runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pod import PluginFailure
from harness.waiting import wait_for
from simulator.client import Simulator

ROLE = "kubernetes.io/role/cni"
CLUSTER = "cni.networking.k8s.aws/cluster/"
# Subnet a is the nodes' own; c has more room than d; e belongs to another cluster, f to none; g is in another zone.
SIMULATOR = {
    "subnet": ["a=192.168.0.0/24@a", "c=192.168.16.0/20@a", "d=192.168.32.0/22@a", "e=192.168.64.0/18@a",
               "f=192.168.128.0/18@a", "g=192.168.48.0/20@b"],
}
ENVIRONMENT = {"CLUSTER_NAME": "blue"}


def subnet_ids(vpc: Simulator) -> dict[str, str]:
    return {each["name"]: each["subnet_id"] for each in vpc.ask("subnets")}


def tag(vpc: Simulator, name: str, **tags: str) -> None:
    vpc.ec2().create_tags(Resources=[subnet_ids(vpc)[name]], Tags=[{"Key": key, "Value": value}
                                                                  for key, value in tags.items()])


@pytest.fixture
def tagged(vpc: Simulator) -> Iterator[dict[str, str]]:
    for name in "cdg":
        tag(vpc, name, **{ROLE: "1"})
    tag(vpc, "d", **{CLUSTER + "blue": "shared"})
    tag(vpc, "e", **{ROLE: "1", CLUSTER + "green": "owned"})
    ids = subnet_ids(vpc)
    yield ids
    keys = [ROLE, CLUSTER + "blue", CLUSTER + "green"]
    vpc.ec2().delete_tags(Resources=list(ids.values()), Tags=[{"Key": key} for key in keys])


def actions(vpc: Simulator) -> dict[str, int]:
    """Successful calls by action."""
    return {action: row["successful"] for action, row in vpc.counts()["actions"].items() if row["successful"]}


def interfaces(vpc: Simulator, node: Node) -> list[dict[str, Any]]:
    """The node's ENIs as EC2 describes them, by device index."""
    found = vpc.ec2().describe_network_interfaces(
        Filters=[{"Name": "attachment.instance-id", "Values": [node.instance.instance_id]}])["NetworkInterfaces"]
    return sorted(found, key=lambda each: each["Attachment"]["DeviceIndex"])


def secondary_subnets(vpc: Simulator, node: Node) -> list[str]:
    return [each["SubnetId"] for each in interfaces(vpc, node)[1:]]


def test_the_roomiest_tagged_subnet_is_used(vpc: Simulator, make_node: Callable[..., Node], tagged: dict[str, str]) -> None:
    node = make_node("roomy", type="m5.large", subnet="a", environment=ENVIRONMENT)
    node.agent.start()
    pods = node.add_pods(20)
    wait_for(lambda: len(secondary_subnets(vpc, node)) == 2, "two more ENIs")
    assert set(secondary_subnets(vpc, node)) == {tagged["c"]}
    # A pod on another subnet is as reachable as any other pod.
    far = next(pod for pod in pods if pod.address.startswith("192.168.16."))
    near = next(pod for pod in pods if pod.address.startswith("192.168.0."))
    near.exec(["ping", "-c", "1", "-W", "2", far.address])
    # The agent read the list once, and no attachment waited for it.
    assert actions(vpc)["DescribeSubnets"] >= 1
    assert not vpc.drops()["total"]


def test_a_full_subnet_is_left_for_the_next(vpc: Simulator, make_node: Callable[..., Node], tagged: dict[str, str]) -> None:
    node = make_node("next", type="m5.large", subnet="a",
                     environment={**ENVIRONMENT, "WARM_ENI_TARGET": "0", "WARM_IP_TARGET": "1"})
    node.agent.start()
    node.add_pods(6)
    vpc.ask("subnet.take", subnet="c", leave=0)
    try:
        node.add_pods(10, prefix="more")
        assert set(secondary_subnets(vpc, node)) == {tagged["d"]}
    finally:
        vpc.ask("subnet.free", subnet="c")


def test_free_addresses_of_all_subnets_are_of_this_moment(vpc: Simulator, make_node: Callable[..., Node],
                                                          tagged: dict[str, str]) -> None:
    """The agent's list is as old as its last growth: doctor asks EC2, and shows the age of the agent's own data."""
    def doctor() -> str:
        done = node.instance.run([str(paths.BINARY), "doctor", "--json", "--check=subnet-addresses"], check=False)
        return str(json.loads(done.stdout)["checks"][0]["found"])

    node = make_node("counts", type="m5.large", subnet="a", environment=ENVIRONMENT)
    node.agent.start()
    node.wait_quiet()
    status = json.loads(node.instance.run([str(paths.BINARY), "status", "--json"]).stdout)
    known = next(each["free"] for each in status["subnets"] if each["id"] == tagged["d"])
    vpc.ask("subnet.take", subnet="d", leave=100)
    try:
        # No ENI of the node is in that subnet; on a busy machine EC2 may exceed doctor's limit, so the test asks again.
        found = wait_for(lambda: (seen := doctor()) and "by the agent" not in seen and seen, "doctor has asked EC2", 90)
        assert f"{tagged['d']}: 100 free" in found, found
        vpc.fault("DescribeSubnets", http=503, code="Unavailable", times=10_000)
        assert re.search(rf"{tagged['d']}: {known} free \d+ s ago, by the agent", doctor()), doctor()
        text = node.instance.run([str(paths.BINARY), "status"]).stdout
        assert re.search(rf"{tagged['d']} +{known} +\d+s ago", text), text
    finally:
        vpc.clear_faults()
        vpc.ask("subnet.free", subnet="d")


def test_discovery_off(vpc: Simulator, make_node: Callable[..., Node], tagged: dict[str, str]) -> None:
    vpc.counts(reset=True)
    node = make_node("off", type="m5.large", subnet="a", environment={**ENVIRONMENT, "ENABLE_SUBNET_DISCOVERY": "false"})
    node.agent.start()
    node.add_pods(12)
    assert set(secondary_subnets(vpc, node)) == {tagged["a"]}
    assert "DescribeSubnets" not in actions(vpc)


def test_forbidden_discovery_uses_the_primary_subnet(vpc: Simulator, make_node: Callable[..., Node],
                                                     tagged: dict[str, str]) -> None:
    vpc.deny("DescribeSubnets")
    try:
        node = make_node("denied", type="m5.large", subnet="a", environment=ENVIRONMENT)
        node.agent.start()
        node.add_pods(12)
        assert set(secondary_subnets(vpc, node)) == {tagged["a"]}
        assert node.agent.log().count('"msg":"cannot list subnets from EC2') == 1, "said once"
        assert '"permission":"ec2:DescribeSubnets"' in node.agent.log()
    finally:
        vpc.allow("DescribeSubnets")


def test_slow_discovery_does_not_delay_ready(vpc: Simulator, make_node: Callable[..., Node], tagged: dict[str, str]) -> None:
    vpc.latency("DescribeSubnets", 8)
    try:
        node = make_node("slow", type="m5.large", subnet="a", environment=ENVIRONMENT)
        node.agent.start(deadline=60)
        assert '"subnets for new ENIs"' not in node.agent.log(), "ready before the answer"
        wait_for(lambda: "subnets for new ENIs" in node.agent.log(), "the subnets", deadline=60)
    finally:
        vpc.latency("DescribeSubnets", 0)


def test_excluded_primary_subnet(vpc: Simulator, make_node: Callable[..., Node], tagged: dict[str, str]) -> None:
    """No pod gets an address of the primary subnet; pods get addresses of the other subnets."""
    tag(vpc, "a", **{ROLE: "0"})
    node = make_node("excluded", type="m5.large", subnet="a", environment=ENVIRONMENT)
    node.agent.start()
    pods = node.add_pods(8)
    assert {pod.address.split(".")[2] for pod in pods} == {"16"}, [pod.address for pod in pods]
    assert tagged["a"] not in secondary_subnets(vpc, node)


def test_everything_excluded_is_named(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Also if EC2 lists the subnets later than the ENIs: the agent waits a little before it takes addresses."""
    tag(vpc, "a", **{ROLE: "0"})
    vpc.latency("DescribeSubnets", 0.5)
    try:
        node = make_node("nowhere", type="m5.large", subnet="a", environment=ENVIRONMENT)
        node.agent.start()
        with pytest.raises(PluginFailure) as failure:
            node.pod("lost").add()
        assert "excluded by its tags" in failure.value.error["msg"], failure.value.error
    finally:
        vpc.latency("DescribeSubnets", 0)
        vpc.ec2().delete_tags(Resources=[subnet_ids(vpc)["a"]], Tags=[{"Key": ROLE}])


def test_groups_and_cidrs_follow(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Two changes share one wait: the agent checks every half minute."""
    node = make_node("follows", type="m5.large", subnet="a", fast_clock=True)
    node.agent.start()
    node.add_pods(12)
    ec2 = vpc.ec2()
    primary, *others = interfaces(vpc, node)
    assert others
    group = ec2.create_security_group(GroupName="late", Description="late", VpcId=primary["VpcId"])["GroupId"]
    ec2.modify_network_interface_attribute(NetworkInterfaceId=primary["NetworkInterfaceId"], Groups=[group])
    vpc.ask("cidr.add", cidr="100.64.0.0/16")

    def followed() -> bool:
        return all([each["GroupId"] for each in eni["Groups"]] == [group] for eni in interfaces(vpc, node))

    node.wait_in_agent_time(followed, "the new group on every ENI", deadline=90)
    node.wait_in_agent_time(lambda: "100.64.0.0/16" in node.instance.run(["iptables-save", "-t", "nat"]).stdout,
                            "the new CIDR in the SNAT rules", deadline=60)
