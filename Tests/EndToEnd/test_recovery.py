"""The state that a restart can find: half-made ENIs, a damaged checkpoint, an EC2 or an IMDS that is away or sends nonsense."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pod import PluginFailure, Pod
from harness.state import expected, kernel
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

INSTANCE_TAG = "node.k8s.amazonaws.com/instance_id"
STEPS = ["CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute"]


# How many ENIs are left unattached. If EC2 handles an attachment only after the restart, its index may be taken.
SWEPT = {
    ("CreateNetworkInterface", "before the restart"): {1}, ("CreateNetworkInterface", "after the restart"): {1},
    ("AttachNetworkInterface", "never"): {1}, ("AttachNetworkInterface", "after the restart"): {0, 1},
}


def hold(vpc: Simulator, action: str, seconds: float, is_done: bool) -> None:
    """Holds the next call of an action for `seconds`; then the call is executed, or the connection drops and it is not."""
    vpc.fault(action, delay=seconds, only_delay=is_done, drop=not is_done)


def is_held(vpc: Simulator, action: str) -> bool:
    """The held call has arrived: its fault is used up."""
    return not any(fault["action"] == action for fault in vpc.ask("fault.list"))


def is_over(vpc: Simulator, action: str) -> bool:
    """The held call has ended, whoever else makes calls meanwhile."""
    return is_held(vpc, action) and not any(fault["action"] == action for fault in vpc.ask("fault.met"))


def secondary(node: Node) -> list[dict[str, Any]]:
    return [eni for eni in node.enis() if eni["index"] > 0]


def available(vpc: Simulator, node: Node) -> list[dict[str, Any]]:
    return [eni for eni in vpc.enis()
            if eni["status"] == "available" and eni["tags"].get(INSTANCE_TAG) == node.instance.instance_id]


def everything_talks(vpc: Simulator, pods: list[Pod]) -> None:
    """Each pod reaches the next one and the internet, and the VPC dropped no packet."""
    vpc.drops(reset=True)
    for pod, other in zip(pods, pods[1:] + pods[:1]):
        assert pod.ping(other.address), f"{pod.name} to {other.name}"
        assert pod.ping(INTERNET), f"{pod.name} to the internet"
    assert vpc.drops()["total"] == 0, vpc.drops()


# MARK: killed while an ENI is being made


@pytest.mark.parametrize("done", ["never", "before the restart", "after the restart"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_an_eni_is_made(vpc: Simulator, make_node: Callable[..., Node], step: str, done: str) -> None:
    node = make_node(f"half-{step[0].lower()}{len(done)}", type="m5.large", subnet="a")
    hold(vpc, step, seconds=2.5, is_done=done != "never")
    node.agent.start()
    early = node.add_pods(3, prefix="early")  # the first of them makes the pool request a second ENI
    wait_for(lambda: is_held(vpc, step), f"{step} is held")
    node.agent.kill()
    if done == "before the restart":
        wait_for(lambda: is_over(vpc, step), f"{step} has been done")
    node.agent.start()
    if done == "after the restart":
        wait_for(lambda: is_over(vpc, step), f"{step} has been done")
    late = node.add_pods(12, prefix="late")
    wait_for(lambda: is_over(vpc, step), f"{step} has come to its end")

    pods = early + late
    assert len({pod.address for pod in pods}) == 15
    assert {entry["ipv4"] for entry in node.checkpoint()} == {pod.address for pod in pods}
    for pod in early:
        pod.check()
    everything_talks(vpc, pods)

    wait_for(lambda: all(eni["delete_on_termination"] for eni in secondary(node)), "every ENI goes with the instance")
    attached = node.enis()  # read once: the warm ENI may arrive at any moment
    assert len({eni["index"] for eni in attached}) == len(attached) <= 3
    owned = [address for eni in attached for address in eni["addresses"]]
    assert len(set(owned)) == len(owned) and {pod.address for pod in pods} <= set(owned)
    assert all(eni["tags"].get(INSTANCE_TAG) == node.instance.instance_id for eni in secondary(node))
    # Created but not attached: the sweep of leaked ENIs finds it by its tags. An ENI that the agent is just making looks alike.
    node.wait_quiet()
    left = available(vpc, node)
    assert len(left) in SWEPT.get((step, done), {0}), left
    for eni in left:
        assert "node.k8s.amazonaws.com/createdAt" in eni["tags"]
        vpc.ec2().delete_network_interface(NetworkInterfaceId=eni["eni"])


def test_stop_while_ec2_does_not_answer(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """SIGTERM does not wait for EC2: a stop may take at most 5 s."""
    node = make_node("impatient", type="m5.large", subnet="a")
    hold(vpc, "AttachNetworkInterface", seconds=9, is_done=False)
    node.agent.start()
    pods = node.add_pods(2)
    wait_for(lambda: is_held(vpc, "AttachNetworkInterface"), "the attachment is held")
    assert node.agent.stop(deadline=5.5) == 0
    node.agent.start()
    for pod in pods:
        pod.check()
    for eni in available(vpc, node):
        vpc.ec2().delete_network_interface(NetworkInterfaceId=eni["eni"])


def test_stop_while_a_link_does_not_show_up(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """SIGTERM does not wait either for a link that does not appear on the instance."""
    vpc.ask("delay", attach=20)
    try:
        node = make_node("linkless", type="m5.large", subnet="a")
        node.agent.start()
        node.add_pods(2)
        wait_for(lambda: secondary(node), "an ENI is attached")
        assert node.agent.stop(deadline=5.5) == 0
    finally:
        vpc.ask("delay", attach=0)


# MARK: a damaged checkpoint


@pytest.mark.parametrize("restarts", [1, 2])
def test_pod_of_a_damaged_checkpoint_is_deleted(make_node: Callable[..., Node], restarts: int) -> None:
    node = make_node("damaged", type="t3.nano", subnet="b", environment={"IP_COOLDOWN_PERIOD": "1"})
    node.agent.start()
    lost, kept = node.add_pods(2)
    node.agent.kill()
    node.instance.run(["sh", "-c", f"echo nonsense > {paths.CHECKPOINT}"])
    for _ in range(restarts):
        node.agent.start()
        assert {entry["ipv4"] for entry in node.checkpoint()} == {lost.address, kept.address}
        if restarts > 1:
            node.agent.kill()
    if restarts > 1:
        node.agent.start()
    address = lost.address
    lost.delete()
    assert {entry["ipv4"] for entry in node.checkpoint()} == {kept.address}
    wait_for(lambda: lost.host_veth not in node.pod_veths(), "its veth is gone")
    assert address not in node.pod_routes()
    # A t3.nano has two pod addresses: the next pod can only get this one, after its cooldown.
    assert node.pod("heir").add().address == address
    kept.check()
    lost.delete()
    assert len(node.checkpoint()) == 2, "a repeated DEL of the pod takes nothing from its heir"
    node.delete_pods()
    node.wait_clean()


def test_recreated_pod_survives_the_late_del(make_node: Callable[..., Node]) -> None:
    """A DEL that never reached the agent leaves an entry; after a restart the repeated DEL must not affect the new sandbox."""
    node = make_node("late", type="m5.large", subnet="a")
    node.agent.start()
    other = node.pod("other").add()
    old = node.pod("web-0").add()
    node.agent.process.send_signal(signal.SIGSTOP)
    node.instance.run(["ip", "link", "del", old.host_veth])  # the runtime gave up on the agent and deleted the sandbox
    node.agent.process.send_signal(signal.SIGCONT)
    old.remove_namespace()
    new = Pod(node.instance, "web-0").create_namespace().add()
    node.agent.kill()
    node.agent.start()
    assert {entry["ipv4"] for entry in node.checkpoint()} == {other.address, new.address}
    assert set(node.pod_routes()) == {other.address, new.address}
    old.delete()
    assert new.ping(other.address)
    new.check()
    node.pods = [other, new]
    node.delete_pods()
    node.wait_clean()


def test_a_repeated_del_spares_the_heir(make_node: Callable[..., Node]) -> None:
    """The runtime repeats DEL with its cached result after a new sandbox of the pod has got the same address: the veth's
    name, the address and the route are those of the pod that runs now."""
    node = make_node("heir", type="t3.nano", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0", "MAX_ENI": "1"})
    node.agent.start()
    old = node.pod("web-0").add()
    old.delete()
    old.remove_namespace()
    heir = Pod(node.instance, "web-0").create_namespace().add()
    node.pods = [heir]
    assert (heir.address, heir.host_veth) == (old.address, old.host_veth)
    old.delete()
    heir.check()
    assert heir.ping(node.enis()[0]["addresses"][0])
    node.delete_pods()
    node.wait_clean()


def test_address_of_a_pod_that_ended_unseen_rests(make_node: Callable[..., Node]) -> None:
    node = make_node("unseen", type="t3.nano", subnet="b", environment={"IP_COOLDOWN_PERIOD": "3600"})
    node.agent.start()
    gone, _ = node.add_pods(2)
    node.agent.kill()
    gone.remove_namespace()
    wait_for(lambda: gone.host_veth not in node.pod_veths(), "its veth went with the namespace")
    node.agent.start()

    def resting() -> list[str]:
        document = json.loads(node.instance.run(["cat", paths.CHECKPOINT]).stdout)
        return [entry["ip"] for entry in document.get("cooldowns", [])]

    # The agent first keeps a young entry for some seconds: its plugin could still be running.
    wait_for(lambda: resting() == [gone.address], "the address rests")
    with pytest.raises(PluginFailure) as failure:
        node.pod("early").add()
    assert "cooldown" in failure.value.error["msg"]


def test_checkpoint_of_a_previous_boot(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Only the checkpoint on disk survives a reboot: there is no pod, rule, route, map or SNAT.

    The node also holds the same ENIs and addresses at EC2 as before, so the new pods are on both ENIs at once.
    """
    node = make_node("reboot", type="m5.large", subnet="a",
                     environment={"AWS_VPC_K8S_CNI_BACKING_STORE": "/var/lib/cni/ipam.json", "IP_COOLDOWN_PERIOD": "0"})
    node.agent.start()
    before = node.add_pods(12, prefix="before")
    node.wait_quiet()
    node.agent.kill()
    for pod in before:
        pod.remove_namespace()
    wait_for(lambda: node.pod_veths() == [], "the pods' veths went with them")
    links = [eni["device"] for eni in secondary(node)]
    script = ["nft flush ruleset", "ip rule flush", "ip rule add priority 32766 lookup main", "ip rule add priority 32767 lookup default"]
    script += [f"ip address flush dev {link}; ip link set {link} down" for link in links]
    node.instance.run(["sh", "-ec", "; ".join(script)])

    node.agent.start()

    def forgotten() -> bool:  # a young entry is kept for some seconds: its plugin could still be running
        read = node.instance.run(["cat", "/var/lib/cni/ipam.json"]).stdout
        return json.loads(read)["allocations"] == []

    wait_for(forgotten, "the pods of the previous boot are forgotten", deadline=20)
    node.wait_quiet()
    after = node.add_pods(14, prefix="after")
    node.wait_quiet()
    assert kernel(node) == expected(node, after)
    assert any(pod.address in eni["addresses"] for eni in secondary(node) for pod in after)
    everything_talks(vpc, after)


# MARK: EC2 away or broken


@pytest.mark.parametrize("trouble", [{"http": 503, "code": "Unavailable"}, {"http": 500, "code": "InternalError"},
                                     {"drop": True}])
def test_start_by_imds_alone(vpc: Simulator, make_node: Callable[..., Node], trouble: dict[str, Any]) -> None:
    """EC2 does not list the attached ENIs: pods keep their addresses, and new pods get addresses known to be free."""
    node = make_node("alone", type="m5.large", subnet="a")
    node.agent.start()
    pods = node.add_pods(12)
    wait_for(lambda: len(node.enis()) == 3, "the warm ENI")
    node.agent.stop()
    vpc.fault("[A-Z]*", times=-1, **trouble)  # IMDS's names start with a lower-case letter
    try:
        node.agent.start(deadline=45)
        assert {entry["ipv4"] for entry in node.checkpoint()} == {pod.address for pod in pods}
        more = node.add_pods(3, prefix="more")
        everything_talks(vpc, pods + more)
        assert len({pod.address for pod in pods + more}) == 15
        first = pods[0].address
        node.delete_pods(pods[:1])
        assert first not in {entry["ipv4"] for entry in node.checkpoint()}
    finally:
        vpc.clear_faults()


NONSENSE = {
    "cut": {"http": 200, "truncate": 40}, "empty": {"http": 200, "body": ""},
    "not XML": {"http": 200, "body": "{\"status\": \"ok\"}"}, "other XML": {"http": 200, "body": "<a><b>c</b></a>"},
    "half XML": {"http": 200, "body": "<CreateNetworkInterfaceResponse><networkInterface>"},
    "bomb": {"http": 200, "body": "<!DOCTYPE a [<!ENTITY b 'c'><!ENTITY d '&b;&b;'>]><a>&d;</a>"},
    "deep": {"http": 200, "body": "<a>" * 20_000}, "huge": {"http": 200, "body": "<a>", "size": 64 << 20},
    "error without XML": {"http": 500, "body": "upstream connect error"}, "dropped": {"drop": True},
    "moved": {"http": 302, "body": ""},
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_from_ec2(vpc: Simulator, make_node: Callable[..., Node], name: str) -> None:
    """The answers come while the pool must grow: a pod fails with a cause or gets an address a little later."""
    node = make_node("nonsense", type="m5.large", subnet="a", environment={"VPC_CNI_ADD_TIMEOUT": "3"})
    node.agent.start()
    wait_for(lambda: node.shape()[0][0] > 0, "EC2 has given the first addresses")
    node.add_pods(1)
    for action in ["AssignPrivateIpAddresses", "CreateNetworkInterface", "DescribeNetworkInterfaces"]:
        vpc.fault(action, times=-1, caller=node.name, **NONSENSE[name])
    failed, pods = 0, []
    for number in range(28):  # one more than the node holds
        pod = node.pod(f"wanting-{number}")
        try:
            pods.append(pod.add())
        except PluginFailure as failure:
            assert failure.error["msg"].startswith("add cmd: failed to assign an IP address to container: "), failure
            failed += 1
            break
    assert failed, "every address came although EC2 talks nonsense"
    assert node.agent.process is not None and node.agent.process.poll() is None
    assert node.agent.memory()["VmRSS"] < 200_000
    vpc.clear_faults()
    wait_for(lambda: heals(node), "a pod gets an address once EC2 makes sense", deadline=60)
    assert len({pod.address for pod in pods}) == len(pods)


def heals(node: Node) -> bool:
    pod = node.pod("healed")
    try:
        return bool(pod.add())
    except PluginFailure:
        pod.remove_namespace()
        node.pods.remove(pod)
        return False


# MARK: IMDS broken


@pytest.mark.parametrize("path", ["imds:/latest/meta-data/mac", "imds:/latest/dynamic/*",
                                  "imds:/latest/meta-data/network/*", "imds:/latest/api/token"])
@pytest.mark.parametrize("trouble", [
    {"http": 200, "body": "\x00\x7f nonsense"}, {"http": 200, "body": "{" * 5000}, {"http": 200, "size": 32 << 20},
    {"http": 200, "body": "0123456789" * 10, "truncate": 10}, {"http": 500}, {"drop": True},
], ids=["garbage", "braces", "huge", "cut", "error", "dropped"])
def test_start_waits_for_an_imds_that_makes_sense(
    vpc: Simulator, make_node: Callable[..., Node], path: str, trouble: dict[str, Any]
) -> None:
    node = make_node("imds", type="m5.large", subnet="a")
    vpc.fault(path, times=-1, caller=node.name, **trouble)
    node.agent.start(wait=False)
    wait_for(lambda: "will retry" in node.agent.log(), "the agent says what it waits for", deadline=20)
    assert node.agent.process is not None and node.agent.process.poll() is None
    assert not node.agent.healthy()
    vpc.clear_faults()
    wait_for(node.agent.ready_or_dead, "agent ready once IMDS makes sense", deadline=30)
    node.add_pods(1)
