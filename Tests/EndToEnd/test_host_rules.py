"""The node's own rules: where they are, what moves them, which settings change them, and what gets in their way."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from harness import firewall, kube_proxy
from harness.node import Node
from harness.pod import Pod
from harness.traffic import device_index
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

SIMULATOR = {"nat_gateway": True}


def with_pods(node: Node) -> Pod:
    """Starts the agent if it does not run; the returned pod is on a secondary ENI."""
    if node.agent.process is None:
        node.agent.start()
    node.add_pods(5)  # a t3.small's primary ENI holds three
    return next(pod for pod in node.pods if device_index(node, pod) == 1)


def seen_outside(vpc: Simulator, pod: Pod) -> set[str]:
    """The pod's addresses as the internet sees them."""
    vpc.internet(reset=True)
    assert pod.ping(INTERNET), "no way to the internet"
    return set(wait_for(lambda: vpc.internet()["sources"], "the internet's log"))


def test_rules_follow_kubelet(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Kubelet shows minutes after the agent's start which iptables it uses: the rules move to that one and leave no trace."""
    node = make_node(type="t3.small", fast_clock=True)
    pod = with_pods(node)
    assert firewall.holders(node) == {"nft", "aws-cni"}
    chains = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"]
    for backend, holders in (("legacy", {"legacy"}), ("nft", {"nft", "aws-cni"})):
        for other in {"legacy", "nft"} - {backend}:
            for chain in chains:
                node.instance.run([f"iptables-{other}", "-w", "-t", "mangle", "-X", chain], check=False)
        kube_proxy.hint(node, backend)
        with node.hurry():
            wait_for(lambda: firewall.holders(node) == holders, f"the rules in {backend}", 20)
        assert seen_outside(vpc, pod) == {node.instance.address}
        wait_for(lambda: firewall.series(node, "awscni_firewall_backend") == {f"iptables-{backend}": 1}, "the metric")
        connmark = "iptables" if backend == "legacy" else "nftables"
        assert firewall.series(node, "awscni_connmark_backend") == {connmark: 1}


def test_a_held_xtables_lock_does_not_keep_the_node_from_starting(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Somebody holds the lock for 20 s: the agent is ready long before that, pods meanwhile reach the outside through
    nftables, and the rules are in their final place soon after the lock is released."""
    node = make_node(type="t3.small")
    kube_proxy.hint(node, "legacy")
    began = time.monotonic()
    holder = firewall.LockHolder(node)
    node.agent.start()
    assert node.agent.seconds_to_ready < 12
    pod = with_pods(node)
    assert seen_outside(vpc, pod) == {node.instance.address}
    assert firewall.holders(node) == {"aws-cni", "vpc-cni-host"}
    assert firewall.lines(node, "no working iptables")
    wait_for(lambda: time.monotonic() - began > 20, "20 s with the lock held", 25)
    holder.release()
    wait_for(lambda: firewall.holders(node) == {"legacy"}, "the rules in iptables-legacy", 40)
    assert seen_outside(vpc, pod) == {node.instance.address}
    assert firewall.series(node, "awscni_firewall_rules_in_place") == {"": 1}


def test_a_node_without_iptables(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """nftables holds all rules, the log and a metric say so, and an iptables that is installed later takes over."""
    node = make_node(type="t3.small", fast_clock=True)
    firewall.hide_iptables(node)
    pod = with_pods(node)
    assert firewall.tables(node) == ["aws-cni", "vpc-cni-host"]
    assert seen_outside(vpc, pod) == {node.instance.address}
    assert firewall.series(node, "awscni_firewall_backend") == {"nftables": 1}
    assert firewall.series(node, "awscni_firewall_rules_in_place") == {"": 1}
    said = firewall.lines(node, "no working iptables")
    assert len(said) == 1 and said[0]["level"] == "warn" and "remedy" in said[0], said
    firewall.show_iptables(node)
    with node.hurry():
        wait_for(lambda: firewall.holders(node) == {"nft", "aws-cni"}, "the rules in iptables-nft", 20)
    assert seen_outside(vpc, pod) == {node.instance.address}


def test_nftables_that_refuses_everything(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """A kernel whose nf_tables has no ip family behaves like this. Here another program owns every table, and the kernel
    refuses all changes by others. The agent still serves: by a pair of rules for each pod, and by iptables-legacy."""
    node = make_node(type="t3.small")
    owner = node.instance.popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    tables = ["nat", "mangle", "vpc-cni", "aws-cni", "vpc-cni-host"]
    try:
        owner.stdin.write("".join(f"add table ip {name} {{ flags owner; }}\n" for name in tables).encode())
        owner.stdin.flush()
        listed = lambda: node.instance.run(["nft", "list", "tables"]).stdout
        wait_for(lambda: all(f"table ip {name}\n" in listed() for name in tables), "the owned tables")
        pod = with_pods(node)
        assert seen_outside(vpc, pod) == {node.instance.address}
        assert firewall.rules(node, "legacy") and not firewall.rules(node, "nft")
        assert len(firewall.lines(node, "nftables refuses the source map; using per-pod policy rules")) == 1
        assert len(firewall.lines(node, "kube-proxy's iptables backend and nftables refuse the firewall rules")) == 1
        assert [rule for rule in node.rules() if rule["priority"] == 1536 and rule["src"] == pod.address]
        assert firewall.series(node, "awscni_firewall_backend") == {"iptables-legacy": 1}
    finally:
        owner.communicate()
    node.agent.stop()
    node.agent.start()
    assert firewall.holders(node) == {"legacy"}, "nobody else uses either, so they stay where they are"
    assert seen_outside(vpc, pod) == {node.instance.address}


def test_settings_are_switched_between_restarts(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node(type="t3.small", fast_clock=True)
    pod = with_pods(node)
    firewall.forget_quickly(node)
    plain = (firewall.rules(node, "nft"), firewall.holders(node))
    steps: list[tuple[dict[str, str], str, str]] = [
        ({"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true"}, pod.address, "-i ens5"),
        ({"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "198.51.100.0/24"}, pod.address, "-d 198.51.100.0/24"),
        ({"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "0.0.0.0/0"}, pod.address, "EXCLUSION"),
        ({"AWS_VPC_K8S_CNI_RANDOMIZESNAT": "hashrandom"}, node.instance.address, "--random"),
        ({"AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none"}, node.instance.address, f"--to-source {node.instance.address}"),
        ({"AWS_VPC_CNI_NODE_PORT_SUPPORT": "false"}, node.instance.address, "-i eni+"),
        ({"AWS_VPC_K8S_CNI_CONNMARK": "0x300"}, node.instance.address, "0x300"),
        ({"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true", "AWS_VPC_CNI_NODE_PORT_SUPPORT": "false"}, pod.address, ""),
        ({}, node.instance.address, "--random-fully"),
    ]
    own = dict(node.agent.environment)
    for environment, peer, word in steps:
        node.agent.stop()
        node.agent.environment = {**own, **environment}
        node.agent.start()
        assert seen_outside(vpc, pod) == {peer}, environment
        written = firewall.rules(node, "nft")
        assert any(word in line for line in written) or not word, (environment, written)
        needs = environment.get("AWS_VPC_CNI_NODE_PORT_SUPPORT") != "false" or "AWS_VPC_K8S_CNI_EXTERNALSNAT" not in environment
        marks = [environment.get("AWS_VPC_K8S_CNI_CONNMARK", "0x80")] if needs else []
        with node.hurry():
            wait_for(lambda: [rule["fwmark"] for rule in node.rules() if rule["priority"] == 1024] == marks, f"rule 1024 with {environment}", 40)
            wait_for(lambda: (firewall.rules(node, "nft"), firewall.holders(node)) == plain or environment, "the first rules", 40)
    assert (firewall.rules(node, "nft"), firewall.holders(node)) == plain
    assert vpc.drops()["total"] == 0, vpc.drops()


@pytest.mark.parametrize("scheme", ["constant", "per-pod"])
def test_external_services_are_reached_by_main(make_node: Callable[..., Node], scheme: str) -> None:
    """A service is behind another interface of the node: pods on secondary ENIs reach it by table main."""
    own = {"VPC_CNI_POD_RULES": scheme, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "172.31.0.0/16"}
    node = make_node(type="t3.small", environment=own)
    run = node.instance.run
    run(["ip", "netns", "add", "service"])
    run(["ip", "link", "add", "tun0", "type", "veth", "peer", "name", "eth0", "netns", "service"])
    for words in ("addr add 172.31.0.1/24 dev tun0", "link set tun0 up", "-n service addr add 172.31.0.2/24 dev eth0",
                  "-n service link set eth0 up", "-n service route add default via 172.31.0.1"):
        run(["ip", *words.split()])
    run(["ip", "rule", "add", "priority", "1535", "to", "172.30.0.0/16", "lookup", "main"])  # left by an earlier setting
    pod = with_pods(node)
    assert not pod.ping("172.31.0.2"), "without the setting the pod's ENI is the way"
    assert not [rule for rule in node.rules() if rule["priority"] == 1535]
    node.agent.stop()
    node.agent.environment["AWS_EXTERNAL_SERVICE_CIDRS"] = "172.31.0.0/16, rubbish, 10.0.0.0/33"
    node.agent.start()
    assert pod.ping("172.31.0.2") and pod.ping(INTERNET)
    assert [rule["dst"] for rule in node.rules() if rule["priority"] == 1535] == ["172.31.0.0"]
    assert len(firewall.lines(node, "invalid setting")) == 2, "each piece of rubbish is named"


def test_connections_of_the_start_outlive_the_first_rules(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """The agent's connections to EC2 are older than the node's first SNAT rule. The rule would treat them as new ones,
    change their port and so break them: a call would have no answer for ten seconds."""
    node = make_node(type="t3.small")
    before, mine = resets(vpc), resets(node)
    node.agent.start()
    node.add_pods(2)
    node.wait_quiet()
    assert resets(vpc) == before, "EC2 has seen a packet of a connection that it does not know"
    assert resets(node) == mine
    assert "vpc-cni-start" not in node.instance.run(["nft", "list", "tables"]).stdout


@pytest.mark.parametrize("external", [False, True])
def test_a_lowered_mtu_holds_no_call_up(make_node: Callable[..., Node], external: bool) -> None:
    """EC2's answer about a new ENI is longer than one packet: it arrives in packets that the interface accepts."""
    node = make_node(type="t3.small", environment={"AWS_VPC_ENI_MTU": "1400", "VPC_CNI_ADD_TIMEOUT": "9",
                                                   "AWS_VPC_K8S_CNI_EXTERNALSNAT": str(external).lower()})
    node.agent.start()
    node.add_pods(5)
    assert len(node.enis()) >= 2
    assert "timeout was reached" not in node.agent.log()
    assert {link["mtu"] for link in node.ip("link") if link["ifname"].startswith("ens")} == {1400}


def resets(where: Simulator | Node) -> int:
    """The number of TCP resets that the fabric, or the node, has sent."""
    words = ["cat", "/proc/self/net/snmp"]
    text = (where.instance.run(words) if isinstance(where, Node) else
            where.run_in("@fabric", words, capture_output=True, text=True, check=True)).stdout
    names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("OutRsts")])


def test_a_forward_policy_of_drop_is_told_and_left(make_node: Callable[..., Node]) -> None:
    node = make_node(type="t3.small", fast_clock=True)
    node.instance.run(["iptables-nft", "-P", "FORWARD", "DROP"])
    node.agent.start()
    dropping = "FORWARD policy drops packets"
    assert [line["chains"] for line in firewall.lines(node, dropping)] == ['["ip filter FORWARD"]']
    wait_for(lambda: firewall.series(node, "awscni_forward_policy_drop") == {"ip filter FORWARD": 1}, "the metric")
    node.instance.run(["nft", "table inet wall { chain f { type filter hook forward priority 0; policy drop; }; }"])
    node.instance.run(["iptables-legacy", "-w", "-P", "FORWARD", "DROP"])
    with node.hurry():
        wait_for(lambda: len(firewall.series(node, "awscni_forward_policy_drop")) == 3, "all three chains", 20)
        wait_for(lambda: len(firewall.lines(node, dropping)[-1]["chains"].split(",")) == 3, "the log has all three")
        began = node.agent.clock.elapsed()
        wait_for(lambda: node.agent.clock.elapsed() - began > 60, "another look")
    said = [line["chains"] for line in firewall.lines(node, dropping)]
    assert len(said) == len(set(said)) <= 3, "one line for each change"
    assert node.instance.run(["iptables-nft", "-S", "FORWARD"]).stdout.startswith("-P FORWARD DROP")
    for words in (["nft", "delete", "table", "inet", "wall"], ["iptables-nft", "-P", "FORWARD", "ACCEPT"],
                  ["iptables-legacy", "-w", "-P", "FORWARD", "ACCEPT"]):
        node.instance.run(words)
    with node.hurry():
        wait_for(lambda: not firewall.series(node, "awscni_forward_policy_drop"), "no chain any more", 20)
        wait_for(lambda: firewall.lines(node, "FORWARD policy no longer drops packets"), "the log says so")


def test_a_veth_prefix_that_is_the_primary_interfaces_is_refused(make_node: Callable[..., Node]) -> None:
    node = make_node(type="t3.small", environment={"AWS_VPC_K8S_CNI_VETHPREFIX": "ens"})
    with pytest.raises(RuntimeError, match='AWS_VPC_K8S_CNI_VETHPREFIX is \\\\"ens\\\\", and the primary ENI is ens5'):
        node.agent.start()
    assert firewall.holders(node) == set(), "nothing was written"


def test_a_veth_prefix_that_another_interface_has_is_told(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node(type="t3.small")
    node.instance.run(["ip", "link", "add", "eni-lan", "type", "veth", "peer", "name", "lan"])
    pod = with_pods(node)
    said = firewall.lines(node, "interfaces of other programs match the veth prefix")
    assert len(said) == 1 and "eni-lan" in said[0]["interfaces"] and "remedy" in said[0], said
    node.agent.stop()
    node.agent.start()
    assert "eni-lan" in firewall.lines(node, "interfaces of other programs match the veth prefix")[-1]["interfaces"]
    assert pod.host_veth not in firewall.lines(node, "interfaces of other programs match the veth prefix")[-1]["interfaces"]
    assert seen_outside(vpc, pod) == {node.instance.address}


def rename_primary(node: Node, old: str, new: str) -> None:
    """Renames the interface as udev or a person does, and restores what DHCP then restores."""
    gateway = next(route["gateway"] for route in node.ip("route") if route["dst"] == "default")
    for words in (f"link set {old} down", f"link set {old} name {new}", f"link set {new} up",
                  f"route add {gateway} dev {new} scope link src {node.instance.address}",
                  f"route add default via {gateway} dev {new} src {node.instance.address}"):
        node.instance.run(["ip", *words.split()])


def test_the_primary_interface_is_renamed(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Before the agent starts and while it runs: the rules follow, because the agent finds the ENI by its MAC address."""
    node = make_node(type="t3.small", fast_clock=True)
    rename_primary(node, "ens5", "wan0")
    pod = with_pods(node)
    own = [line for line in firewall.rules(node, "nft") if "--dst-type LOCAL --limit-iface-in" in line]
    assert len(own) == 1 and "-i wan0 " in own[0], own
    assert seen_outside(vpc, pod) == {node.instance.address}
    rename_primary(node, "wan0", "uplink0")
    with node.hurry():
        wait_for(lambda: any("-i uplink0 " in line for line in firewall.rules(node, "nft")), "the new name", 20)
    assert not any("wan0" in line for line in firewall.rules(node, "nft"))
    assert seen_outside(vpc, pod) == {node.instance.address}
    assert vpc.drops()["total"] == 0, vpc.drops()


def test_two_interfaces_have_one_mac(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """A bridge with the ENI's MAC address is normal; a second interface with it is not, and the log names both."""
    node = make_node(type="t3.small")
    mac = next(link["address"] for link in node.ip("link") if link["ifname"] == "ens5")
    node.instance.run(["ip", "link", "add", "twin", "address", mac, "type", "veth", "peer", "name", "far"])
    node.instance.run(["ip", "link", "add", "br0", "address", mac, "type", "bridge"])
    pod = with_pods(node)
    said = firewall.lines(node, "several interfaces have the ENI's MAC address")
    assert len(said) == 1 and (said[0]["taken"], said[0]["others"]) == ("ens5", '["twin"]'), said
    assert seen_outside(vpc, pod) == {node.instance.address}


def test_settings_that_do_not_go_together(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Each conflict of settings is one log line, and the node works with the valid settings."""
    node = make_node(type="t3.small", environment={
        "AWS_VPC_ENI_MTU": "1500", "POD_MTU": "9001", "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "192.168.7.0/24,10.0.0.0/8,10.1.0.0/16",
        "AWS_EXTERNAL_SERVICE_CIDRS": "192.168.200.0/24"})
    pod = with_pods(node)
    conflicts = [line["conflict"] for line in firewall.lines(node, "conflicting settings")]
    assert [text.split(" is ")[0] for text in conflicts] == ["POD_MTU", "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"], conflicts
    unfit = firewall.lines(node, "settings conflict with the VPC CIDRs")
    assert len(unfit) == 1, unfit
    assert "192.168.200.0/24 overlaps 192.168.0.0/16" in unfit[0]["conflicts"] and "192.168.7.0/24 is within" in unfit[0]["conflicts"]
    assert seen_outside(vpc, pod) == {node.instance.address}


def test_an_eni_appears_without_an_address(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """IMDS shows an ENI before its addresses: the log names it, the other ENIs go on, and it is used once it has them."""
    node = make_node(type="t3.small", fast_clock=True, environment={
        "ENABLE_IMDS_ONLY_MODE": "true", "DISABLE_NETWORK_RESOURCE_PROVISIONING": "true"})
    ec2 = vpc.ec2()
    own = node.enis()[0]["eni"]
    ec2.assign_private_ip_addresses(NetworkInterfaceId=own, SecondaryPrivateIpAddressCount=2)
    subnet = ec2.describe_network_interfaces(NetworkInterfaceIds=[own])["NetworkInterfaces"][0]["SubnetId"]
    made = ec2.create_network_interface(SubnetId=subnet, SecondaryPrivateIpAddressCount=3)["NetworkInterface"]
    path = f"imds:/latest/meta-data/network/interfaces/macs/{made['MacAddress']}/local-ipv4s"
    vpc.fault(path, http=404, times=-1, body="")
    ec2.attach_network_interface(NetworkInterfaceId=made["NetworkInterfaceId"], InstanceId=node.instance.instance_id, DeviceIndex=1)
    node.agent.start()
    first = node.add_pods(2)
    assert first[0].ping(first[1].address), "the primary ENI serves"
    wait_for(lambda: f"{made['NetworkInterfaceId']} has no primary address" in node.agent.log(), "the log names it")
    vpc.clear_faults()
    with node.hurry(20):
        wait_for(lambda: any(rule["priority"] == 1536 for rule in node.rules()), "the ENI wired", 40)
        leads = f": goto {made['NetworkInterfaceId']}"
        wait_for(lambda: node.instance.run(["nft", "list", "map", "ip", "vpc-cni", "addresses"]).stdout.count(leads) == 3,
                 "its addresses led by it", 40)
    more = node.add_pods(3, prefix="more")
    assert all(device_index(node, pod) == 1 for pod in more)
    assert more[0].ping(first[0].address) and more[0].ping(INTERNET)
