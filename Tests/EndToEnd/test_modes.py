"""Modes in which the agent makes fewer EC2 calls, and its other sources of information."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.node import Node
from harness.pod import PluginFailure
from harness.waiting import wait_for
from simulator.client import Simulator

MUTATING = {"CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute",
            "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses", "DetachNetworkInterface",
            "DeleteNetworkInterface", "CreateTags"}


def asked(vpc: Simulator, node: Node) -> dict[str, int]:
    """The node's own EC2 calls by action."""
    return dict(vpc.counts()["callers"].get(node.name, {}))


def primary(vpc: Simulator, node: Node) -> dict[str, Any]:
    return next(each for each in vpc.enis(node.name) if each["index"] == 0)


def test_provisioning_off(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Somebody else assigns and attaches; the agent changes nothing, and sees each change within about a minute."""
    ec2 = vpc.ec2()
    node = make_node("provided", type="m5.large", subnet="a",
                     environment={"DISABLE_NETWORK_RESOURCE_PROVISIONING": "true"}, fast_clock=True)
    ec2.assign_private_ip_addresses(NetworkInterfaceId=primary(vpc, node)["eni"], SecondaryPrivateIpAddressCount=2)
    node.agent.start()
    node.add_pods(2)
    with pytest.raises(PluginFailure) as failure:
        node.pod("third").add()
    assert "DISABLE_NETWORK_RESOURCE_PROVISIONING" in failure.value.error["msg"]
    ec2.assign_private_ip_addresses(NetworkInterfaceId=primary(vpc, node)["eni"], SecondaryPrivateIpAddressCount=1)
    made = ec2.create_network_interface(
        SubnetId=node.instance.described.get("subnet_id") or ec2.describe_network_interfaces(
            NetworkInterfaceIds=[primary(vpc, node)["eni"]])["NetworkInterfaces"][0]["SubnetId"],
        SecondaryPrivateIpAddressCount=3)["NetworkInterface"]["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=made, InstanceId=node.instance.instance_id, DeviceIndex=1)
    node.wait_in_agent_time(lambda: f"set up {made}" in node.agent.log(), "the new ENI", deadline=100)
    more = node.add_pods(4, prefix="more")
    assert more[0].ping(more[-1].address)
    assert not MUTATING & set(asked(vpc, node)), asked(vpc, node)
    assert "DescribeSubnets" not in asked(vpc, node)


def test_imds_only(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("imdsonly", type="m5.large", subnet="a", environment={"ENABLE_IMDS_ONLY_MODE": "true"})
    node.agent.start()
    pods = node.add_pods(15)
    assert len({pod.address for pod in pods}) == 15
    node.agent.kill()
    node.agent.start()
    assert {each["ipv4"] for each in node.checkpoint()} == {pod.address for pod in pods}
    node.add_pods(5, prefix="later")
    assert "DescribeNetworkInterfaces" not in asked(vpc, node), asked(vpc, node)


def test_type_that_no_table_knows(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """EC2 reports the limits of the type: 3 ENIs with 5 pod addresses each."""
    node = make_node("future", type="q9.future", subnet="a")
    node.agent.start()
    pods = node.add_pods(15)
    assert len({pod.address for pod in pods}) == 15
    assert asked(vpc, node)["DescribeInstanceTypes"] == 1
    with pytest.raises(PluginFailure) as failure:
        node.pod("sixteenth").add()
    assert "ENI limit reached: 3 of 3" in failure.value.error["msg"], failure.value.error


@pytest.mark.parametrize("line,limit", [("m5.large 4", 4), ("m5.large four", None)])
def test_pod_limit_by_file(vpc: Simulator, make_node: Callable[..., Node], line: str, limit: int | None) -> None:
    node = make_node(f"limited{limit or 0}", type="m5.large", subnet="a",
                     environment={"VPC_CNI_MAX_PODS_FILE": "/etc/eni-max-pods.txt"})
    node.instance.run(["tee", "/etc/eni-max-pods.txt"], input=f"# pods by type\n{line}\n")
    node.agent.start()
    node.add_pods(limit or 6)
    if limit is None:
        assert "cannot use the max-pods file" in node.agent.log()
        return
    with pytest.raises(PluginFailure) as failure:
        node.pod("beyond").add()
    assert f"all {limit} addresses allowed by max pods" in failure.value.error["msg"]


def test_http_timeout(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """If the setting allows it, the agent waits for an EC2 that takes eleven seconds to answer."""
    node = make_node("patient", type="m5.large", subnet="a",
                     environment={"HTTP_TIMEOUT": "25", "WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"})
    vpc.latency("AssignPrivateIpAddresses", 11)
    try:
        node.agent.start()
        node.pod("waits").add()
        assert "NoAnswer" not in node.agent.log()
    finally:
        vpc.latency("AssignPrivateIpAddresses", 0)


def test_contradicting_answers_reach_no_pod(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """AssignPrivateIpAddresses names an address that EC2 has not assigned: the pod gets one that EC2 confirms."""
    node = make_node("doubts", type="m5.large", subnet="a", environment={"WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"})
    eni = primary(vpc, node)["eni"]
    lie = ("<AssignPrivateIpAddressesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>x</requestId>"
           f"<networkInterfaceId>{eni}</networkInterfaceId><assignedPrivateIpAddressesSet><item>"
           "<privateIpAddress>10.99.99.99</privateIpAddress></item></assignedPrivateIpAddressesSet><return>true</return>"
           "</AssignPrivateIpAddressesResponse>")
    vpc.fault("AssignPrivateIpAddresses", when="after", http=200, body=lie, times=1)
    node.agent.start()
    pod = node.add_pods(1)[0]
    owned = vpc.ec2().describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"][0]
    assert pod.address in {each["PrivateIpAddress"] for each in owned["PrivateIpAddresses"]}
    assert "EC2 response is inconsistent" in node.agent.log()
