"""`vpc-cni doctor`: each check names the fault that the test causes for it, and a healthy node shows no fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.patience import patient

CONFLIST = {"cniVersion": "0.4.0", "name": "aws-cni", "disableCheck": True, "plugins": [
    {"name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001"}, {"type": "portmap", "snat": True}]}


# What a check reports if it could not look because an answer came too late.
LATE = ("no answer", "cannot list ENIs from IMDS", "limits are unknown", "timeout")


def doctor(node: Node, *options: str, env: dict[str, str] | None = None, looks: int = 10,
           within: float = 60.0, about: str | None = None) -> tuple[int, dict[str, dict[str, Any]]]:
    """Returns the exit status and the answers by check ID. On a busy machine doctor's own limit may end before EC2 has
    answered, and doctor says so: the test then runs it again, up to `looks` times in all, each time for at most `within`
    seconds. `about` names the only check that matters."""
    for _ in range(looks):
        began = time.monotonic()
        done = node.instance.run([str(paths.BINARY), "doctor", "--json", *options], check=False, env=env)
        assert time.monotonic() - began < patient(within)
        assert done.stdout, done.stderr
        answers = {answer["id"]: answer for answer in json.loads(done.stdout)["checks"]}
        assert all(answer["why"] and answer["looksAt"] and answer["found"] for answer in answers.values())
        late = [answer["id"] for answer in answers.values()
                if (answer["verdict"] == "could not look" or answer["id"] == about) and any(word in answer["found"] for word in LATE)]
        if not late or about is not None and about not in late:
            break
    return done.returncode, answers


def named(node: Node, check: str, verdict: str, *words: str, looks: int = 10) -> dict[str, Any]:
    """The check has this verdict and names the words and a remedy."""
    status, answers = doctor(node, looks=looks, about=check)
    answer = answers[check]
    assert answer["verdict"] == verdict, answer
    assert all(word in answer["found"] for word in words), answer
    assert bool(answer["remedy"]) == (verdict in ("warning", "broken")), answer
    assert status == (2 if any(each["verdict"] == "broken" for each in answers.values()) else 1)
    return answer


def write(node: Node, path: str, text: str = "") -> None:
    node.instance.run(["sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}"], input=text)


@contextmanager
def made(node: Node, make: str, undo: str) -> Iterator[None]:
    """Causes a fault by a shell command and undoes it by another."""
    node.instance.run(["sh", "-ec", make])
    try:
        yield
    finally:
        node.instance.run(["sh", "-ec", undo])


def new_node(vpc: Simulator, name: str, **options: Any) -> Node:
    node = Node(vpc, name, type="m5.large", subnet="a", **options)
    write(node, "/etc/cni/net.d/10-aws.conflist", json.dumps(CONFLIST))
    node.agent.start()
    node.add_pods(12)
    wait_for(lambda: len(node.agent_rules()) == 2, "all three ENIs wired", 20)
    node.wait_quiet()
    return node


@pytest.fixture(scope="module")
def node(vpc: Simulator) -> Iterator[Node]:
    """A healthy node with pods on two ENIs."""
    node = new_node(vpc, "well")
    yield node
    node.discard()


@pytest.fixture(scope="module")
def orphan(vpc: Simulator) -> Iterator[Node]:
    """The same without its agent: nothing repairs or reports what a test does."""
    node = new_node(vpc, "orphan")
    node.agent.kill()
    yield node
    node.discard()


# MARK: a healthy node


def test_a_healthy_node_shows_nothing(node: Node) -> None:
    status, answers = doctor(node, within=6)
    assert {name: answer["found"] for name, answer in answers.items() if answer["verdict"] in ("warning", "broken")} == {}
    # The kubelet and the container's logs do not exist here.
    assert {name for name, answer in answers.items() if answer["verdict"] != "ok"} <= {"pod-limit"}
    assert status == 0


def test_text_for_people(node: Node) -> None:
    plain = node.instance.run([str(paths.BINARY), "doctor"]).stdout
    assert "\x1b" not in plain and plain.splitlines()[-1].endswith("could not look")
    assert plain.splitlines()[0].split()[:2] == ["ok", "agent-serves"]
    coloured = node.instance.run(["script", "-qec", f"{paths.BINARY} doctor", "/dev/null"], env={"TERM": "xterm"}).stdout
    assert "\x1b[32mok\x1b[0m" in coloured
    refused = node.instance.run([str(paths.BINARY), "doctor", "--chek=imds"], check=False)
    assert refused.returncode == 64 and "unknown option --chek=imds" in refused.stderr and "--check=ID" in refused.stderr


def test_it_changes_nothing(vpc: Simulator, node: Node) -> None:
    # Only counters may change.
    looks = [["ip", "-d", "link"], ["ip", "rule"], ["ip", "route", "show", "table", "all"], ["iptables", "-S"],
             ["iptables", "-t", "nat", "-S"], ["nft", "-s", "list", "ruleset"], ["ls", "-lR", "/etc/cni", "/opt/cni"],
             ["cat", paths.CHECKPOINT]]
    see = lambda: [node.instance.run(look).stdout for look in looks]  # noqa: E731
    before = see()
    vpc.counts(reset=True)
    doctor(node)
    calls = vpc.counts()["actions"]
    assert see() == before
    changing = {action: row for action, row in calls.items() if not action.startswith("Describe") and row["successful"]}
    assert changing == {}, "dry runs alone"


def test_a_dead_agent_is_named_and_the_rest_is_looked_at(orphan: Node) -> None:
    status, answers = doctor(orphan, within=6)
    assert status == 2
    broken = {name: answer["found"] for name, answer in answers.items() if answer["verdict"] in ("broken", "warning")}
    assert set(broken) == {"agent-serves"}, broken
    assert "no process listens" in broken["agent-serves"] or "connect" in broken["agent-serves"]
    assert answers["node-network"]["verdict"] == "ok" and answers["pod-return-path"]["verdict"] == "ok"


# MARK: the host (no agent running)


@pytest.mark.parametrize("check, verdict, word, make, undo", [
    ("ip-forward", "broken", "is 0", "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1"),
    ("forward-policy", "broken", "FORWARD", "iptables-nft -P FORWARD DROP", "iptables-nft -P FORWARD ACCEPT"),
    ("forward-policy", "broken", "inet guard forward",
     "nft 'add table inet guard; add chain inet guard forward { type filter hook forward priority 0; policy drop; }'",
     "nft delete table inet guard"),
    ("rp-filter", "broken", "ens6", "sysctl -qw net.ipv4.conf.ens6.rp_filter=1", "sysctl -qw net.ipv4.conf.ens6.rp_filter=2"),
    ("nm-cloud-setup", "broken", "30200", "ip rule add from 10.9.9.9 priority 30200 lookup 30200", "ip rule del priority 30200"),
    ("nm-cloud-setup", "warning", "enabled",
     "mkdir -p /etc/systemd/system/timers.target.wants; touch /etc/systemd/system/timers.target.wants/nm-cloud-setup.timer",
     "rm /etc/systemd/system/timers.target.wants/nm-cloud-setup.timer"),
    ("networkd-rules", "warning", "ManageForeignRoutingPolicyRules", "mkdir -p /run/systemd/netif; touch /run/systemd/netif/state",
     "rm -r /run/systemd/netif"),
    ("xtables-lock", "broken", "directory", "rm -f /run/xtables.lock; mkdir /run/xtables.lock", "rmdir /run/xtables.lock"),
    ("node-network", "broken", "512", "ip rule del priority 512", "ip rule add priority 512 lookup 20512"),
    ("node-network", "broken", "no route", "ip route show default dev ens6 table 2 > /run/route; ip route del $(cat /run/route) table 2",
     "ip route add $(cat /run/route) dev ens6 table 2"),
    ("node-network", "broken", "vpc-cni", "nft list table ip vpc-cni > /run/saved; nft delete table ip vpc-cni", "nft -f /run/saved"),
    ("node-network", "broken", "SNAT", "iptables-save -t nat > /run/nat; iptables -t nat -F AWS-SNAT-CHAIN-0",
     "iptables-restore -T nat < /run/nat"),
    ("mac-address-policy", "broken", "changed MAC",
     "l=$(ip -br link show type veth | awk -F'[@ ]' '/^eni/{print $1; exit}'); cat /sys/class/net/$l/address > /run/mac; "
     "echo $l > /run/link; ip link set $l address 02:11:22:33:44:55",
     "ip link set $(cat /run/link) address $(cat /run/mac)"),
    ("conflist", "broken", "comes before", "cp /etc/cni/net.d/10-aws.conflist /run/c; "
     "echo '{\"name\":\"x\",\"type\":\"bridge\"}' > /etc/cni/net.d/05-other.conf", "rm /etc/cni/net.d/05-other.conf"),
    ("conflist", "broken", "no network configuration", "mv /etc/cni/net.d/10-aws.conflist /run/c",
     "mv /run/c /etc/cni/net.d/10-aws.conflist"),
    ("conflist", "broken", "vethPrefix", "cp /etc/cni/net.d/10-aws.conflist /run/c; sed -i 's/\"eni\"/\"cali\"/' /etc/cni/net.d/10-aws.conflist",
     "mv /run/c /etc/cni/net.d/10-aws.conflist"),
    ("version-skew", "warning", "not this project's", "mv /opt/cni/bin/aws-cni /run/p; cp /bin/true /opt/cni/bin/aws-cni",
     "mv /run/p /opt/cni/bin/aws-cni"),
    ("checkpoint", "broken", "is missing", "mv /run/aws-node/ipam.json /run/saved.json", "mv /run/saved.json /run/aws-node/ipam.json"),
    ("checkpoint", "broken", "cannot be read", "cp /run/aws-node/ipam.json /run/saved.json; echo '{' > /run/aws-node/ipam.json",
     "mv /run/saved.json /run/aws-node/ipam.json"),
    ("checkpoint", "warning", "damaged", "touch /run/aws-node/ipam.json.damaged", "rm /run/aws-node/ipam.json.damaged"),
    ("settings", "broken", "AWS_VPC_ENI_MTU", "true", "true"),
])
def test_each_fault_of_the_host_is_named(orphan: Node, check: str, verdict: str, word: str, make: str, undo: str) -> None:
    if check == "settings":
        answer = doctor(orphan, env={"ENABLE_IPv4": "true", "AWS_VPC_ENI_MTU": "70000"})[1]["settings"]
        assert answer["verdict"] == verdict and word in answer["found"] and answer["remedy"]
        return
    with made(orphan, make, undo):
        named(orphan, check, verdict, word)
    assert doctor(orphan, about=check)[1][check]["verdict"] == "ok", "undone"


def test_a_pod_without_a_way_back_is_named(orphan: Node) -> None:
    pod = orphan.pods[3]
    with made(orphan, f"ip route del {pod.address} table 20512", f"ip route add {pod.address} dev {pod.host_veth} table 20512"):
        named(orphan, "pod-return-path", "broken", pod.address, pod.name)
    with made(orphan, f"ip link set {pod.host_veth} down",
              f"ip link set {pod.host_veth} up; ip route replace {pod.address} dev {pod.host_veth} table 20512"):
        named(orphan, "pod-return-path", "broken", pod.address)


def test_addresses_of_pods_that_are_gone_are_named(orphan: Node) -> None:
    document = json.loads(orphan.instance.run(["cat", paths.CHECKPOINT]).stdout)
    whole = json.dumps(document)
    entry = dict(document["allocations"][0], containerID="gone", ipv4="10.0.77.77", allocationTimestamp=1)
    entry["metadata"] = {"k8sPodNamespace": "shop", "k8sPodName": "long-gone"}
    document["allocations"].append(entry)
    write(orphan, paths.CHECKPOINT, json.dumps(document))
    try:
        named(orphan, "checkpoint", "warning", "10.0.77.77", "shop/long-gone")
    finally:
        write(orphan, paths.CHECKPOINT, whole)


def test_a_held_lock_is_named(orphan: Node) -> None:
    write(orphan, "/run/xtables.lock")
    holder = orphan.instance.popen(["flock", "/run/xtables.lock", "cat"], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: orphan.instance.run(["flock", "-n", "/run/xtables.lock", "true"], check=False).returncode, "held")
        named(orphan, "xtables-lock", "warning", "held", "flock")
    finally:
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(timeout=patient(10))
    assert doctor(orphan)[1]["xtables-lock"]["verdict"] == "ok"


def test_clashing_iptables_are_named(orphan: Node) -> None:
    if orphan.instance.run(["iptables-legacy", "-t", "mangle", "-L"], check=False).returncode:
        pytest.skip("this kernel has no iptables-legacy")
    with made(orphan, "iptables-legacy -t mangle -N KUBE-KUBELET-CANARY", "iptables-legacy -t mangle -X KUBE-KUBELET-CANARY"):
        named(orphan, "iptables-mode", "broken", "kubelet uses iptables-legacy", "iptables-nft")
        with made(orphan, "iptables-nft -t mangle -N KUBE-KUBELET-CANARY", "iptables-nft -t mangle -X KUBE-KUBELET-CANARY"):
            named(orphan, "iptables-mode", "warning", "both")


def test_persistent_macs_of_another_plugin_are_named(orphan: Node) -> None:
    link = "[Match]\nOriginalName=*\n\n[Link]\nMACAddressPolicy=persistent\n"
    write(orphan, "/etc/systemd/network/10-all.link", link)
    try:
        answer = doctor(orphan)[1]["mac-address-policy"]
        assert answer["verdict"] == "ok" and "10-all.link" in answer["found"], "our plugin sets the MAC at creation"
        with made(orphan, "mv /opt/cni/bin/aws-cni /run/p; cp /bin/true /opt/cni/bin/aws-cni", "mv /run/p /opt/cni/bin/aws-cni"):
            named(orphan, "mac-address-policy", "warning", "10-all.link")
    finally:
        orphan.instance.run(["rm", "/etc/systemd/network/10-all.link"])


def test_restarts_of_the_container_are_named(orphan: Node) -> None:
    folder = "/var/log/pods/kube-system_aws-node-abcde_1234/aws-node"
    with made(orphan, f"mkdir -p {folder}; touch {folder}/6.log {folder}/7.log", "rm -r /var/log/pods"):
        named(orphan, "probes", "warning", "7 times")


def test_a_kubelet_that_takes_too_many_pods_is_named(orphan: Node) -> None:
    for pods, verdict in ((29, "ok"), (110, "warning")):
        kubelet = orphan.instance.popen(
            ["bash", "-c", f"exec -a /usr/bin/kubelet bash -c 'read line' kubelet --max-pods={pods}"], stdin=subprocess.PIPE)
        try:
            # Wait for the new process name: the shell that execs it has the same words among its arguments.
            wait_for(lambda: open(f"/proc/{kubelet.pid}/cmdline", "rb").read().startswith(b"/usr/bin/kubelet\0"), "the kubelet's name")
            answer = doctor(orphan)[1]["pod-limit"]
            assert answer["verdict"] == verdict and f"{pods}" in answer["found"] and "29" in answer["found"], answer
        finally:
            kubelet.kill()
            kubelet.wait()


@pytest.mark.timed
def test_without_imds_the_rest_is_looked_at(vpc: Simulator, orphan: Node) -> None:
    vpc.imds(False, "orphan")
    try:
        began = time.monotonic()
        answer = named(orphan, "imds", "broken", looks=1)
        assert time.monotonic() - began < 6
        assert "169.254.169.254" in answer["remedy"]
        answers = doctor(orphan)[1]
        assert answers["node-network"]["verdict"] == "could not look" and answers["forward-policy"]["verdict"] == "ok"
    finally:
        vpc.imds(True, "orphan")


def test_a_hop_limit_that_is_too_low_is_named(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """A pod is one hop further away than the node, so the hop limit is too low for the token to come back."""
    node = make_node("hops", type="m5.large", subnet="b", hop_limit=1)
    node.agent.start()
    pod = node.add_pods(1)[0]
    done = pod.exec(["env", *(f"{name}={value}" for name, value in node.instance.environment.items()),
                     str(paths.BINARY), "doctor", "--json", "--check=imds"], check=False)
    answer = json.loads(done.stdout)["checks"][0]
    assert done.returncode == 2 and answer["verdict"] == "broken", answer
    assert "HttpPutResponseHopLimit" in answer["found"] and "hop-limit" in answer["remedy"], answer


# MARK: what the agent and EC2 report


DENIED = ("CreateNetworkInterface", "DetachNetworkInterface", "DeleteNetworkInterface", "CreateTags")


def test_missing_permissions_are_named_by_action(vpc: Simulator, node: Node) -> None:
    assert "9 actions by dry runs" in doctor(node)[1]["permissions"]["found"], "all that EC2 has a dry run of"
    for action in DENIED:
        vpc.deny(action)
    try:
        named(node, "permissions", "broken", *(f"ec2:{action}" for action in DENIED))
    finally:
        for action in DENIED:
            vpc.allow(action)
    assert len(node.enis()) == 3, "a dry run does nothing"


def test_leaked_enis_are_named(vpc: Simulator, node: Node) -> None:
    ec2 = vpc.ec2()
    tags = [{"Key": "node.k8s.amazonaws.com/instance_id", "Value": "i-gone"},
            {"Key": "node.k8s.amazonaws.com/createdAt", "Value": "2020-01-01T00:00:00Z"}]
    known = ec2.describe_network_interfaces(NetworkInterfaceIds=[node.enis()[0]["eni"]])
    subnet = known["NetworkInterfaces"][0]["SubnetId"]
    leaked = ec2.create_network_interface(SubnetId=subnet, Description="aws-K8S-i-gone", TagSpecifications=[
        {"ResourceType": "network-interface", "Tags": tags}])["NetworkInterface"]["NetworkInterfaceId"]
    try:
        named(node, "leaked-enis", "warning", leaked)
    finally:
        ec2.delete_network_interface(NetworkInterfaceId=leaked)


@pytest.mark.timed
def test_a_stopped_agent_is_named(node: Node) -> None:
    """The stopped agent holds its socket and does not answer: a probe would see the same."""
    os.kill(node.agent.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        named(node, "agent-serves", "broken", "no answer", looks=1)
        assert time.monotonic() - began < 6
    finally:
        os.kill(node.agent.pid, signal.SIGCONT)


def test_throttling_and_growth_are_named(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("throttled", type="m5.large", subnet="b", environment={"WARM_ENI_TARGET": "0", "WARM_IP_TARGET": "1"})
    vpc.fault("AssignPrivateIpAddresses", http=503, code="RequestLimitExceeded", times=10_000)
    vpc.fault("CreateNetworkInterface", http=503, code="RequestLimitExceeded", times=10_000)
    node.agent.start()
    waiting = node.pod("waiting")
    plugin = node.instance.popen([paths.PLUGIN], env=waiting.environment("ADD"), stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert plugin.stdin is not None
        plugin.stdin.write(json.dumps(waiting.configuration()).encode())
        plugin.stdin.close()
        # Both verdicts must come from one run: between two tries a call is in flight.
        def held_back() -> bool:
            checks = doctor(node)[1]
            growth, throttling = checks["growth"], checks["throttling"]
            return (throttling["verdict"], growth["verdict"]) == ("broken", "broken") and \
                "AssignPrivateIpAddresses" in throttling["found"] and "1 pods wait: EC2 throttles" in growth["found"]

        wait_for(held_back, "the wait and the refusals named", 30)
    finally:
        plugin.kill()
        plugin.wait()
        vpc.clear_faults()


def test_a_full_subnet_is_named(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("full", type="m5.large", subnet="b", environment={"WARM_ENI_TARGET": "0"})
    vpc.fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet", http=400, times=1000)
    vpc.fault("CreateNetworkInterface", code="InsufficientFreeAddressesInSubnet", http=400, times=1000)
    node.agent.start()
    with pytest.raises(RuntimeError):
        node.pod("wanting").add()
    named(node, "subnet-addresses", "broken", "is full")
    named(node, "growth", "broken", "is full")


def test_a_fragmented_subnet_is_named(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("pieces", type="m5.large", subnet="b", environment={"ENABLE_PREFIX_DELEGATION": "true"})
    vpc.fault("AssignPrivateIpAddresses", code="InsufficientCidrBlocks", http=400, times=1)
    vpc.fault("CreateNetworkInterface", code="InsufficientCidrBlocks", http=400, times=1)
    node.agent.start()
    node.add_pods(1)
    named(node, "subnet-fragmentation", "warning", "no free prefix in subnet-")


def test_a_full_node_is_named(make_node: Callable[..., Node]) -> None:
    node = make_node("limit", type="m5.large", subnet="b", environment={"MAX_ENI": "1", "VPC_CNI_ADD_TIMEOUT": "1"})
    node.agent.start()
    wait_for(lambda: node.shape()[0][0] == 9, "the primary ENI filled")
    node.add_pods(9)
    with pytest.raises(RuntimeError):
        node.pod("one-too-many").add()
    named(node, "pod-limit", "broken", "ENI limit")


def test_settings_that_contradict_are_named(make_node: Callable[..., Node]) -> None:
    node = make_node("odd", type="m5.large", subnet="b", environment={
        "MINIMUM_IP_TARGET": "3", "WARM_ENI_TARGET": "2", "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "dice"})
    node.agent.start()
    named(node, "settings", "warning", "MINIMUM_IP_TARGET without WARM_IP_TARGET", "WARM_ENI_TARGET", "dice")
