"""ENIs that others attached or detached, and the tags and attributes of the agent's own ENIs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from harness.node import Node
from harness.state import listing
from harness.waiting import wait_for
from simulator.client import Simulator

INSTANCE = "node.k8s.amazonaws.com/instance_id"


def actions(vpc: Simulator) -> dict[str, int]:
    """Successful calls by action."""
    return {action: row["successful"] for action, row in vpc.counts()["actions"].items() if row["successful"]}


def interfaces(vpc: Simulator, node: Node) -> list[dict[str, Any]]:
    """The node's ENIs as EC2 describes them, by device index."""
    found = vpc.ec2().describe_network_interfaces(
        Filters=[{"Name": "attachment.instance-id", "Values": [node.instance.instance_id]}])["NetworkInterfaces"]
    return sorted(found, key=lambda each: each["Attachment"]["DeviceIndex"])


def tags(interface: dict[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in interface["TagSet"]}


def attach_foreign(vpc: Simulator, node: Node, addresses: int = 3, device: int = 1, **extra: str) -> str:
    """Attaches an ENI of somebody else to the node. Returns its id."""
    ec2 = vpc.ec2()
    primary = interfaces(vpc, node)[0]
    made = ec2.create_network_interface(
        SubnetId=primary["SubnetId"], SecondaryPrivateIpAddressCount=addresses,
        TagSpecifications=[{"ResourceType": "network-interface",
                            "Tags": [{"Key": key, "Value": value} for key, value in extra.items()]}] if extra else [])
    eni = made["NetworkInterface"]["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=eni, InstanceId=node.instance.instance_id, DeviceIndex=device)
    return eni


def test_one_more_eni_is_three_calls(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("three", type="m5.large", subnet="a",
                     environment={"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "9", "CLUSTER_NAME": "blue",
                                  "ENABLE_SUBNET_DISCOVERY": "false",
                                  "ADDITIONAL_ENI_TAGS": '{"team":"net","node.k8s.amazonaws.com/x":"y"}'})
    node.agent.start()
    node.add_pods(8)
    wait_for(lambda: INSTANCE in tags(interfaces(vpc, node)[0]), "the primary's tags")
    vpc.counts(reset=True)
    node.pod("ninth").add()
    wait_for(lambda: "ModifyNetworkInterfaceAttribute" in actions(vpc), "one more ENI")
    calls = {action: count for action, count in actions(vpc).items() if action != "AssignPrivateIpAddresses"}
    assert calls == {"CreateNetworkInterface": 1, "AttachNetworkInterface": 1, "ModifyNetworkInterfaceAttribute": 1}
    made = interfaces(vpc, node)[1]
    assert made["Attachment"]["DeleteOnTermination"]
    assert made["Description"] == f"aws-K8S-{node.instance.instance_id}"
    assert set(tags(made)) == {INSTANCE, "node.k8s.amazonaws.com/createdAt", "cluster.k8s.amazonaws.com/name",
                               "eks:eni:owner", "team"}


@pytest.mark.parametrize("action", ["AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"])
def test_throttled_halfway_makes_one_eni(vpc: Simulator, make_node: Callable[..., Node], action: str) -> None:
    """The agent attaches a created ENI once EC2 allows it; it does not delete it and create another one."""
    node = make_node(f"busy-{action[:3].lower()}", type="m5.large", subnet="a", environment={"MAX_ENI": "2"})
    vpc.counts(reset=True)
    vpc.fault(action, code="RequestLimitExceeded", http=503, times=3, when="before")
    node.agent.start()
    node.add_pods(12)
    assert actions(vpc)["CreateNetworkInterface"] == 1
    assert "DeleteNetworkInterface" not in actions(vpc)


def test_foreign_eni_is_adopted_at_start_and_tagged(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("adopts", type="m5.large", subnet="a", environment={"CLUSTER_NAME": "blue"})
    eni = attach_foreign(vpc, node)
    node.agent.start()
    assert len(node.add_pods(12)) == 12

    def tagged() -> bool:
        return all(tags(each).get(INSTANCE) == node.instance.instance_id
                   and tags(each).get("cluster.k8s.amazonaws.com/name") == "blue" for each in interfaces(vpc, node))

    wait_for(tagged, "tags on every managed ENI")
    adopted = next(each for each in interfaces(vpc, node) if each["NetworkInterfaceId"] == eni)
    assert "node.k8s.amazonaws.com/createdAt" not in tags(adopted), "its age is not ours to tell"


def test_forbidden_tags_are_not_fatal(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    vpc.deny("CreateTags")
    try:
        node = make_node("untagged", type="m5.large", subnet="a")
        attach_foreign(vpc, node)
        node.agent.start()
        node.add_pods(5)
        wait_for(lambda: "cannot tag an ENI" in node.agent.log(), "a word about the tags")
    finally:
        vpc.allow("CreateTags")


@pytest.mark.parametrize("environment,extra", [
    ({}, {"node.k8s.amazonaws.com/no_manage": "true"}), ({"MANAGE_UNTAGGED_ENI": "false"}, {}),
])
def test_unmanaged_eni_is_left_alone(vpc: Simulator, make_node: Callable[..., Node], environment: dict[str, str],
                                     extra: dict[str, str]) -> None:
    node = make_node(f"leaves{len(extra)}", type="m5.large", subnet="a", environment=environment)
    eni = attach_foreign(vpc, node, **extra)
    before = next(each for each in interfaces(vpc, node) if each["NetworkInterfaceId"] == eni)
    theirs = {each["PrivateIpAddress"] for each in before["PrivateIpAddresses"]}
    node.agent.start()
    pods = node.add_pods(12)
    assert not theirs & {pod.address for pod in pods}
    after = next(each for each in interfaces(vpc, node) if each["NetworkInterfaceId"] == eni)
    assert tags(after) == extra and {each["PrivateIpAddress"] for each in after["PrivateIpAddresses"]} == theirs
    # An m5.large takes three ENIs: one is the primary ENI, another one is already attached.
    assert len(interfaces(vpc, node)) == 3


def test_what_changes_behind_the_agents_back(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """The agent sees each change within about a minute: it uses a new address, still accounts for an address that was
    removed under its pod, and adopts a foreign ENI. It makes one or two EC2 calls each time that it looks."""
    node = make_node("behind", type="m5.large", subnet="a",
                     environment={"WARM_ENI_TARGET": "0", "WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "4"}, fast_clock=True)
    node.agent.start()
    pods = node.add_pods(3)
    ec2 = vpc.ec2()
    primary = interfaces(vpc, node)[0]["NetworkInterfaceId"]
    victim = pods[0]
    ec2.unassign_private_ip_addresses(NetworkInterfaceId=primary, PrivateIpAddresses=[victim.address])
    eni = attach_foreign(vpc, node, addresses=4)
    node.wait_in_agent_time(lambda: eni in node.agent.log(), "the foreign ENI in the log", deadline=100)
    wait_for(lambda: any(INSTANCE in tags(each) for each in interfaces(vpc, node)[1:]), "its tags", deadline=30)
    more = node.add_pods(5, prefix="more")
    addresses = [pod.address for pod in [*pods, *more]]
    assert len(set(addresses)) == len(addresses), "an address that is still accounted is given to nobody else"
    assert {each["ipv4"] for each in node.checkpoint()} == set(addresses)
    node.delete_pods([victim])


def test_eni_of_another_vpc_is_left_alone(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """EC2 can attach ENIs of other VPCs; their addresses belong to networks that contain neither the cluster nor its
    pods. The simulator has one VPC, so the test puts another VPC into the answers of EC2 and IMDS."""
    node = make_node("foreign", type="m5.xlarge", subnet="a")
    eni = attach_foreign(vpc, node)
    other = "vpc-0fedcba9876543210"
    parts = listing(vpc, node).split("<networkInterfaceId>")
    parts = [re.sub(r"<vpcId>[^<]*", f"<vpcId>{other}", part) if part.startswith(eni) else part for part in parts]
    vpc.fault("DescribeNetworkInterfaces", times=1, http=200, body="<networkInterfaceId>".join(parts), caller="foreign")
    foreign = next(each for each in interfaces(vpc, node) if each["NetworkInterfaceId"] == eni)
    vpc.fault(f"imds:/latest/meta-data/network/interfaces/macs/{foreign['MacAddress']}/vpc-id", times=-1, http=200,
              body=other, caller="foreign")
    node.agent.start()
    pods = node.add_pods(20)
    theirs = {each["PrivateIpAddress"] for each in foreign["PrivateIpAddresses"]}
    assert not theirs & {pod.address for pod in pods}
    assert node.agent.log().count("ENI is in a different VPC than the node") == 1 and other in node.agent.log()
    after = next(each for each in interfaces(vpc, node) if each["NetworkInterfaceId"] == eni)
    assert tags(after) == {} and {each["PrivateIpAddress"] for each in after["PrivateIpAddresses"]} == theirs
    assert not node.ip("route", "show", "table", "2"), "nothing of it is wired"


def test_enis_of_other_cards_do_not_count(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """A p5 has an ENI on each of three more network cards: card 0 takes two ENIs of its own, and pods are on both."""
    node = make_node("cards", type="p5.48xlarge", subnet="a", environment={"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"})
    ec2 = vpc.ec2()
    for card in (1, 2, 3):
        made = ec2.create_network_interface(SubnetId=interfaces(vpc, node)[0]["SubnetId"])["NetworkInterface"]
        ec2.attach_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"], DeviceIndex=1, NetworkCardIndex=card,
                                     InstanceId=node.instance.instance_id)
    node.agent.start()
    pods = node.add_pods(52)
    assert len({pod.address for pod in pods}) == 52
    own = [each for each in interfaces(vpc, node) if each["Attachment"].get("NetworkCardIndex", 0) == 0]
    assert len(own) == 2
