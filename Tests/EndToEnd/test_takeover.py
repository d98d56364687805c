"""From amazon-vpc-cni-k8s to this CNI and back, and from one scheme of policy rules to the other, while pods run.

No packet may be lost: during each change, pods on the primary and on a secondary ENI exchange echoes with a pod of
another node, one each millisecond, from before the change until three seconds after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pinging import none_lost
from harness.pod import Pod
from harness.reference import ReferenceAgent, ReferencePod
from harness.state import INTERNET, assert_talk, differences, wait_sound
from harness.waiting import wait_for
from simulator.client import Simulator

SETTINGS = {"WARM_ENI_TARGET": "0", "WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "14", "IP_COOLDOWN_PERIOD": "0"}


def pod_rules(node: Node) -> set[tuple[int, str, str]]:
    """The rules of single pods: priority, the pod's address, the table."""
    return {(rule["priority"], rule.get("dst") or rule["src"], str(rule["table"])) for rule in node.rules()
            if rule["priority"] in (512, 1536) and ("dst" in rule or rule.get("src", "all") != "all")}


def main_pod_routes(node: Node) -> set[str]:
    return {route["dst"] for route in node.ip("route", "show", "table", "main") if route.get("dev", "").startswith("eni")}


def on_eni(node: Node, pods: list[Any], index: int) -> Any:
    addresses = {address for eni in node.enis() if eni["index"] == index for address in eni["addresses"]}
    return next(pod for pod in pods if pod.address in addresses)


def expected_pod_rules(node: Node, pods: list[Any]) -> set[tuple[int, str, str]]:
    tables = {address: eni["index"] + 1 for eni in node.enis() if eni["index"] for address in eni["addresses"]}
    rules = {(512, pod.address, "main") for pod in pods}
    return rules | {(1536, pod.address, str(tables[pod.address])) for pod in pods if pod.address in tables}


def flows(node: Node, pods: list[Any], far: Pod) -> list[tuple[Pod, str]]:
    """Of pods on both ENIs, to them, between them, and to the internet."""
    first, second = on_eni(node, pods, 0), on_eni(node, pods, 1)
    return [(second, far.address), (far, second.address), (first, far.address), (second, first.address), (second, INTERNET)]


@pytest.fixture
def far(make_node: Callable[..., Node]) -> Pod:
    node = make_node("far", type="m5.large", subnet="b", environment=SETTINGS)
    node.agent.start()
    return node.pod("far").add()


def restart(node: Node, rules: str) -> None:
    node.agent.stop()
    node.agent.environment["VPC_CNI_POD_RULES"] = rules
    node.agent.start()


# MARK: a node of amazon-vpc-cni-k8s


def wipe(node: Node) -> None:
    """Removes everything of ours: only what the machine image has set up remains."""
    run = node.instance.run
    run(["nft", "flush", "ruleset"])
    for priority in ("512", "1024", "1536", "32764", "32765"):
        while run(["ip", "rule", "del", "priority", priority], check=False).returncode == 0:
            pass
    for table in ("20512", "2", "3"):
        run(["ip", "route", "flush", "table", table], check=False)


def set_up_as_reference(node: Node, vpc: Simulator) -> None:
    """Links, tables, rules and firewall as the agent of amazon-vpc-cni-k8s leaves them: sections 8.1 to 8.3 and 8.7 of its contract."""
    run = node.instance.run
    enis = node.enis()
    known = {each["NetworkInterfaceId"]: each for each in vpc.ec2().describe_network_interfaces(
        NetworkInterfaceIds=[eni["eni"] for eni in enis])["NetworkInterfaces"]}
    links = {link["address"]: link["ifname"] for link in node.ip("link")}
    primary = next(eni for eni in enis if eni["index"] == 0)
    cidr = vpc.ec2().describe_vpcs(VpcIds=[known[primary["eni"]]["VpcId"]])["Vpcs"][0]["CidrBlock"]
    for eni in enis:
        link = links[known[eni["eni"]]["MacAddress"]]
        run(["ip", "link", "set", link, "mtu", "9001", "up"])
        # The init container of amazon-vpc-cni-k8s sets only the primary ENI's value.
        value = "2" if eni["index"] == 0 else "1"
        run(["sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/{link}/rp_filter"])
        if eni["index"] == 0:
            continue
        subnet = vpc.ec2().describe_subnets(SubnetIds=[known[eni["eni"]]["SubnetId"]])["Subnets"][0]["CidrBlock"]
        length = subnet.split("/")[1]
        head, _, last = subnet.split("/")[0].rpartition(".")
        gateway, table = f"{head}.{int(last) + 1}", str(eni["index"] + 1)
        run(["ip", "address", "flush", "dev", link])
        run(["ip", "address", "add", f"{eni['primary']}/{length}", "dev", link])
        run(["ip", "route", "replace", gateway, "dev", link, "scope", "link", "table", table])
        run(["ip", "route", "replace", "default", "via", gateway, "dev", link, "table", table])
        run(["ip", "route", "del", subnet, "dev", link], check=False)
        run(["ip", "rule", "add", "priority", "32765", "from", eni["primary"], "lookup", table])
    run(["ip", "rule", "add", "priority", "1024", "fwmark", "0x80/0x80", "lookup", "main"])
    run(["iptables-restore", "--noflush"], input=f"""*nat
:AWS-SNAT-CHAIN-0 - [0:0]
-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
-A AWS-SNAT-CHAIN-0 -d {cidr} -m comment --comment "AWS SNAT CHAIN" -j RETURN
-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source {primary["primary"]} --random-fully
COMMIT
*mangle
-A PREROUTING -i {links[known[primary["eni"]]["MacAddress"]]} -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-mark 0x80/0x80
-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --mask 0x80
-A PREROUTING -i vlan+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --mask 0x80
COMMIT
""")
    run(["nft", "-f", "-"], input=f"""table ip aws-cni {{
  chain nat-prerouting {{
    type nat hook prerouting priority -90; policy accept;
    fib daddr type local return
    iifname "eni*" counter jump snat-mark
    counter meta mark set ct mark & 0x80
  }}
  chain snat-mark {{
    counter ip daddr {cidr} return
    counter ct mark set ct mark | 0x80
  }}
}}
""")


@pytest.fixture
def theirs(vpc: Simulator, make_node: Callable[..., Node]) -> tuple[Node, list[ReferencePod]]:
    """A node of amazon-vpc-cni-k8s with pods on two ENIs. Only the ENIs at EC2 were made by our agent."""
    node = make_node("theirs", type="m5.large", subnet="a", environment=SETTINGS)
    node.agent.start()
    fill = node.add_pods(11)
    node.wait_quiet()
    node.delete_pods(fill)
    node.wait_clean()
    node.agent.stop()
    wipe(node)
    set_up_as_reference(node, vpc)
    by_index = {eni["index"]: [each for each in eni["addresses"] if each != eni["primary"]] for eni in node.enis()}
    addresses = [{"ip": ip, "device": 1, "table": 2} for ip in by_index[1][:2]]
    addresses += [{"ip": ip, "device": 0, "table": 254} for ip in by_index[0][:3]]
    agent = ReferenceAgent(node.instance, addresses)
    pods = [ReferencePod(node.instance, f"old-{number}").create_namespace().add_as_reference()
            for number in range(len(addresses))]
    agent.stop()
    node.pods += pods
    write_checkpoint(node, pods)
    return node, pods


def write_checkpoint(node: Node, pods: list[Any]) -> None:
    entries = [{
        "networkName": "aws-cni", "containerID": pod.container, "ifName": "eth0", "ipv4": pod.address,
        "allocationTimestamp": 1700000000000000000,
        "metadata": {"k8sPodNamespace": pod.namespace, "k8sPodName": pod.name, "interfacesCount": 1}} for pod in pods]
    document = {"version": "vpc-cni-ipam/1", "allocations": entries}
    node.instance.run(["sh", "-c", f"cat > {paths.CHECKPOINT}"], input=json.dumps(document))


def as_read(node: Node) -> list[dict[str, Any]]:
    """What the agent of amazon-vpc-cni-k8s reads from our checkpoint."""
    devices = {address: eni["index"] for eni in node.enis() for address in eni["addresses"]}
    return [{"key": [entry["networkName"], entry["containerID"], entry["ifName"]], "ip": entry["ipv4"], "device": device,
             "table": device + 1 if device else 254}
            for entry in node.checkpoint() for device in [devices[entry["ipv4"]]]]


def test_takeover_of_the_existing_system(vpc: Simulator, theirs: tuple[Node, list[ReferencePod]], far: Pod) -> None:
    node, pods = theirs
    assert pod_rules(node) == expected_pod_rules(node, pods), "the model's own state"
    with none_lost(vpc, node, flows(node, pods, far)):
        node.agent.start()
        wait_for(lambda: not pod_rules(node) and not main_pod_routes(node) or None, "the old rules and routes are gone", 30)
    wait_sound(node, pods)
    # Our pods run beside the others, and either plugin deletes pods of each kind.
    ours = node.pod("ours").add()
    assert_talk(vpc, [*pods, ours])
    pods[0].delete()
    assert pods[1].delete_as_reference()["Success"] is True
    for gone in pods[:2]:
        gone.remove_namespace()
    wait_sound(node, [*pods[2:], ours])


def test_back_to_the_existing_system(vpc: Simulator, theirs: tuple[Node, list[ReferencePod]], far: Pod) -> None:
    """Taken over, then changed back with per-pod rules: the node is as the agent of amazon-vpc-cni-k8s expects it, and
    its plugin deletes pods that our plugin has started."""
    node, pods = theirs
    node.agent.start()
    wait_for(lambda: not pod_rules(node) or None, "taken over", 30)
    pods = [*pods, node.pod("ours").add()]
    with none_lost(vpc, node, flows(node, pods, far)):
        restart(node, "per-pod")
        wait_for(lambda: is_per_pod(node, pods) or None, "each pod has its own rules, and ours are gone", 30)
    node.agent.stop()
    agent = ReferenceAgent(node.instance, [], as_read(node))
    try:
        # That agent returns the address and leaves the host's side to the plugin.
        for pod in pods:
            assert pod.ping(far.address) and far.ping(pod.address)
            pod.delete()
            assert not any(rule[1] == pod.address for rule in pod_rules(node)), pod_rules(node)
    finally:
        agent.stop()


# MARK: our own node, from one scheme to the other


def is_per_pod(node: Node, pods: list[Any]) -> bool:
    """The rules are as in the contract, and nothing of the constant scheme is left."""
    others = [rule for rule in node.rules() if rule["priority"] in (512, 1536, 32764) and
              (rule["priority"] == 32764 or "fwmark" in rule or str(rule.get("table")) == "20512")]
    return (pod_rules(node) == expected_pod_rules(node, pods) and main_pod_routes(node) == {pod.address for pod in pods}
            and not others and not node.pod_routes()
            and node.instance.run(["nft", "list", "table", "ip", "vpc-cni"], check=False).returncode != 0)


def test_from_one_scheme_to_the_other_and_back(vpc: Simulator, make_node: Callable[..., Node], far: Pod) -> None:
    node = make_node("both", type="m5.large", subnet="a", environment=SETTINGS)
    node.agent.start()
    node.add_pods(11)
    node.wait_quiet()
    with none_lost(vpc, node, flows(node, node.pods, far)):
        restart(node, "per-pod")
        wait_for(lambda: is_per_pod(node, node.pods) or None, "per-pod rules alone", 30)
    node.pod("late").add()
    assert is_per_pod(node, node.pods)
    assert_talk(vpc, node.pods)
    with none_lost(vpc, node, flows(node, node.pods, far)):
        restart(node, "constant")
        wait_for(lambda: not pod_rules(node) and not main_pod_routes(node) or None, "constant rules alone", 30)
    wait_sound(node, node.pods)
    assert_talk(vpc, node.pods)
    node.delete_pods()
    node.wait_clean()


def test_killed_while_it_changes_the_scheme(vpc: Simulator, make_node: Callable[..., Node], far: Pod) -> None:
    """An agent that dies in between leaves the rules of both schemes; the next one continues, whichever scheme it uses."""
    node = make_node("cut", type="m5.large", subnet="a", environment=SETTINGS)
    node.agent.start()
    node.add_pods(11)
    node.wait_quiet()
    with none_lost(vpc, node, flows(node, node.pods, far)):
        for rules in ("per-pod", "constant", "per-pod"):
            before = pod_rules(node)
            node.agent.kill()
            node.agent.environment["VPC_CNI_POD_RULES"] = rules
            node.agent.start(wait=False)
            wait_for(lambda: pod_rules(node) != before or None, "some pods have changed", 20)
        node.agent.kill()
        restart(node, "constant")
        wait_for(lambda: not pod_rules(node) and not main_pod_routes(node) or None, "constant rules alone", 30)
    wait_sound(node, node.pods)


# MARK: the per-pod scheme by itself


def test_per_pod_scheme(vpc: Simulator, make_node: Callable[..., Node], far: Pod) -> None:
    """Pods start, talk on both ENIs and end; a restart keeps them; undone changes are repaired."""
    node = make_node("each", type="m5.large", subnet="a", environment={**SETTINGS, "VPC_CNI_POD_RULES": "per-pod"})
    node.agent.start()
    node.add_pods(11)
    assert is_per_pod(node, node.pods)
    first, second = on_eni(node, node.pods, 0), on_eni(node, node.pods, 1)
    assert_talk(vpc, [first, second, far])
    second.check()
    with none_lost(vpc, node, flows(node, node.pods, far)):
        node.agent.kill()
        node.agent.start()
    for undo in (["ip", "rule", "del", "priority", "1536", "from", second.address],
                 ["ip", "rule", "del", "priority", "512", "to", second.address],
                 ["ip", "route", "del", second.address]):
        node.instance.run(undo)
        wait_for(lambda: is_per_pod(node, node.pods) or None, f"{undo} put right", 8)
    address = second.address
    second.delete()
    second.remove_namespace()
    node.pods.remove(second)
    wait_for(lambda: is_per_pod(node, node.pods) or None, f"nothing of {address} is left", 10)
    node.delete_pods()
    wait_for(lambda: not pod_rules(node) and not main_pod_routes(node) and not node.pod_veths() or None, "nothing left")


def test_without_nf_tables_each_pod_has_its_rules(vpc: Simulator, make_node: Callable[..., Node], far: Pod) -> None:
    """The setting is constant but the node does not support it: the agent says so and pods talk anyway."""
    node = make_node("old", type="m5.large", subnet="a", environment=SETTINGS)
    # Without libnftnl the agent has no nf_tables, and neither does iptables-nft.
    node.instance.run(["sh", "-c", "for file in $(ldconfig -p | grep -o '/[^ ]*libnftnl.so.11[^ ]*' | xargs readlink -f | sort -u);"
                                   " do mount --bind /dev/null $file; done"])
    node.agent.start()
    node.add_pods(11)
    assert pod_rules(node) == expected_pod_rules(node, node.pods)
    assert "nftables is not available; using per-pod policy rules" in node.agent.log()
    first, second = on_eni(node, node.pods, 0), on_eni(node, node.pods, 1)
    assert_talk(vpc, [first, second, far])
    node.delete_pods()
    wait_for(lambda: not pod_rules(node) and not main_pod_routes(node) and not node.pod_veths() or None, "nothing left")
