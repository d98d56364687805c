"""An IPv6 cluster: each node's primary ENI has one prefix, from which all of its pods get addresses."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable

import pytest

from harness import firewall, paths
from harness.ipv6 import IPV6, init
from harness.node import Node
from harness.pinging import none_lost
from harness.pod import PluginFailure
from harness.reference import ReferenceAgent, ReferencePod
from harness.state import listing
from harness.waiting import wait_for
from simulator.client import Simulator

SIMULATOR = {"family": "dual"}
NODE_LOCAL = "-d 169.254.172.0/22 -m conntrack --ctstate NEW"


@pytest.fixture
def make_node6(vpc: Simulator, make_node: Callable[..., Node]) -> Callable[..., Node]:
    """A node on which the init container has run, without an agent."""
    vpc.counts(reset=True)

    def make(name: str = "n1", environment: dict[str, str] | None = None, **options: object) -> Node:
        node = make_node(name, environment={**IPV6, **(environment or {})}, **options)
        init(node)
        return node

    return make


def prefixes(node: Node) -> list[str]:
    return [prefix for eni in node.enis() for prefix in eni["prefixes6"]]


def routes(node: Node, table: str = "20512") -> list[str]:
    return sorted(route["dst"] for route in node.ip("-6", "route", "show", "table", table)
                  if route.get("dev", "").startswith("eni") and not route["dst"].startswith("fe80:"))


def rules(node: Node) -> set[tuple[int, str]]:
    return {(rule["priority"], rule["table"]) for rule in node.ip("-6", "rule", "show") if "table" in rule}


def assert_sound(node: Node) -> None:
    """Route, checkpoint and prefix agree with the pods, and each address is of one pod."""
    addresses = sorted(pod.address for pod in node.pods)
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes(node)]
    assert len(set(addresses)) == len(addresses)
    assert all(any(ipaddress.ip_address(address) in network for network in networks) for address in addresses)
    assert routes(node) == addresses == node.held()


def ping(node: Node, address: str) -> bool:
    return node.instance.run(["ping", "-6", "-q", "-c", "1", "-W", "2", address], check=False).returncode == 0


# MARK: pods


def test_one_prefix_serves_all_pods(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    here, there = nodes = [make_node6("n1", subnet="a"), make_node6("n2", subnet="b")]
    for node in nodes:
        node.agent.start()
        node.add_pods(20)
        assert_sound(node)
        [prefix] = prefixes(node)
        assert str(ipaddress.ip_network(prefix).network_address) not in node.held(), "the routers' anycast address"
        assert node.calls().get("AssignIpv6Addresses") == 1 and len(node.enis()) == 1
        assert {(512, "20512"), (1024, "main")} <= rules(node)
        for pod in node.pods[:3]:
            pod.check()
    outside = vpc.ready["internet6"]
    for pod in here.pods[:2]:
        for target in (here.pods[2].address, there.pods[0].address, here.instance.address6, there.instance.address6, outside):
            assert pod.ping(target), f"{pod.name} to {target}"
    assert ping(here, there.pods[0].address) and ping(here, here.pods[0].address)
    assert {here.pods[0].address, here.pods[1].address} <= set(vpc.internet()["sources"]), "pods keep their addresses outside"
    assert vpc.drops()["total"] == 0, json.dumps(vpc.drops())
    for node in nodes:
        node.delete_pods()
        wait_for(lambda node=node: not routes(node) and not node.pod_veths() and not node.checkpoint(), "clean", 10)
        assert len(prefixes(node)) == 1, "the prefix stays"


def test_the_result_of_an_add(make_node6: Callable[..., Node]) -> None:
    node = make_node6()
    node.agent.start()
    [pod] = node.add_pods(1)
    assert pod.result["ips"] == [{"version": "6", "address": f"{pod.address}/128", "interface": 1}]
    links = json.loads(pod.exec(["ip", "-j", "-6", "address", "show", "dev", "eth0"]).stdout)
    [address] = [each for link in links for each in link.get("addr_info", []) if each["scope"] == "global"]
    assert (address["local"], address["prefixlen"]) == (pod.address, 128) and not address.get("tentative")
    [default] = json.loads(pod.exec(["ip", "-j", "-6", "route", "show", "default"]).stdout)
    assert default["gateway"] == "fe80::1" and default["dev"] == "eth0"
    pod.delete()
    pod.delete()


def test_init_keeps_the_route_of_the_router(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """With forwarding on and accept_ra=1, the kernel deletes the default route that it has from a router advertisement."""
    node = make_node()

    def default() -> list[dict[str, object]]:
        return node.ip("-6", "route", "show", "default")

    wait_for(default, "a default route by a router advertisement", 20)
    before = default()
    init(node)
    assert [route["gateway"] for route in default()] == [route["gateway"] for route in before]
    for name, value in (("all.disable_ipv6", "0"), ("all.forwarding", "1"), (f"{before[0]['dev']}.accept_ra", "2")):
        assert node.instance.run(["sysctl", "-n", f"net.ipv6.conf.{name}"]).stdout.strip() == value


# MARK: the prefix


def test_without_a_prefix_the_node_is_not_ready(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    """It is tried for without end. A pod's event names EC2's reason meanwhile, and a DEL is answered."""
    node = make_node6(fast_clock=True)
    vpc.fault("AssignIpv6Addresses", caller=node.name, http=400, code="InsufficientCidrBlocks",
              message="There are not enough free cidr blocks in the specified subnet", times=-1)
    node.agent.start(wait=False)
    wait_for(lambda: firewall.lines(node, "no IPv6 prefix yet"), "the log says so", 20)
    assert not node.agent.healthy()
    pod = node.pod("early")
    told: list[str] = []

    def is_told() -> bool:
        """If the wait ends while a call is on its way, the error says that instead."""
        with pytest.raises(PluginFailure) as failure:
            pod.add()
        told.append(failure.value.error["msg"])
        return "the subnet has no free prefix" in told[-1]

    with node.hurry(10):
        wait_for(is_told, "EC2's reason in the error", 60)
    assert all("prefix" in message for message in told), told
    pod.delete()
    with node.hurry(60):
        wait_for(lambda: node.calls().get("AssignIpv6Addresses", 0) >= 4, "further attempts", 30)
    assert not node.agent.healthy() and firewall.series(node, "awscni_growth_blocked")
    vpc.clear_faults(node.name)
    with node.hurry(60):
        wait_for(node.agent.healthy, "ready", 30)
    pod.add()
    assert_sound(node)


def test_a_restart_while_ec2_is_down_keeps_every_pod(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    """amazon-vpc-cni-k8s loses all pods of its checkpoint here, and gives their addresses out again."""
    node = make_node6()
    node.agent.start()
    old = node.add_pods(10)
    for action in ("DescribeNetworkInterfaces", "AssignIpv6Addresses"):
        vpc.fault(action, caller=node.name, http=503, code="Unavailable", times=-1)
    for _ in range(2):
        node.agent.kill()
        node.agent.start()
        assert node.held() == sorted(pod.address for pod in node.pods)
    node.add_pods(10, prefix="late")
    assert_sound(node)
    assert all(pod.ping(old[0].address) for pod in node.pods[1:])
    vpc.clear_faults(node.name)
    node.agent.kill()
    node.agent.start()
    assert_sound(node)
    assert len(prefixes(node)) == 1


def test_a_prefix_that_is_there_is_used(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    """Another program, or an agent before, had assigned it. With two, pods stay in theirs; none is given back."""
    node = make_node6()
    primary = node.enis()[0]["eni"]
    vpc.ec2().assign_ipv6_addresses(NetworkInterfaceId=primary, Ipv6PrefixCount=1)
    node.agent.start()
    node.add_pods(3)
    assert node.calls().get("AssignIpv6Addresses", 0) == 0
    vpc.ec2().assign_ipv6_addresses(NetworkInterfaceId=primary, Ipv6PrefixCount=1)
    for _ in range(3):
        node.agent.stop()
        node.agent.start()
        node.add_pods(1, prefix=f"more{len(node.pods)}")
        assert_sound(node)
    assert len(prefixes(node)) == 2 and node.calls().get("UnassignIpv6Addresses", 0) == 0


def test_a_listing_without_the_prefix_costs_no_second_one(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    node = make_node6()
    node.agent.start()
    node.add_pods(5)
    body = re.sub(r"<ipv6PrefixSet>.*?</ipv6PrefixSet>", "", listing(vpc, node), flags=re.DOTALL)
    assert body != listing(vpc, node)
    vpc.fault("DescribeNetworkInterfaces", caller=node.name, times=1, http=200, body=body)
    node.agent.kill()
    node.agent.start()
    assert firewall.lines(node, "EC2 listing lacks the IPv6 prefix of running pods")
    node.add_pods(5, prefix="late")
    assert_sound(node)
    assert len(prefixes(node)) == 1


# MARK: the node's rules


def test_what_others_delete_comes_back(make_node6: Callable[..., Node]) -> None:
    node = make_node6(fast_clock=True)
    node.agent.start()
    pods = node.add_pods(3)
    before = rules(node)
    run = node.instance.run
    run(["ip", "-6", "rule", "del", "priority", "512"])
    run(["ip", "-6", "rule", "del", "priority", "1024"])
    run(["ip", "-6", "route", "flush", "table", "20512"])
    wait_for(lambda: rules(node) == before and routes(node) == node.held(), "rules and routes", 10)
    assert pods[0].ping(pods[1].address)
    guard = [line for line in run(["iptables-save", "-t", "filter"]).stdout.splitlines() if NODE_LOCAL in line]
    assert len(guard) == 1 and guard[0].endswith(
        '-m comment --comment "Block Node Local Pod access via IPv4" -j REJECT --reject-with icmp-port-unreachable')
    run(["sh", "-c", f"iptables {guard[0].replace('-A FORWARD', '-D FORWARD')}"])
    run(["iptables", "-A", "FORWARD", "-j", "ACCEPT"])
    with node.hurry():
        wait_for(lambda: guard == [line for line in run(["iptables-save", "-t", "filter"]).stdout.splitlines()
                                   if line.startswith("-A FORWARD")][:1], "the guard is the first rule again", 20)
    assert not firewall.rules(node, "nft"), "no SNAT and no connection marks"


def test_without_iptables_nftables_guards(make_node6: Callable[..., Node]) -> None:
    node = make_node6()
    firewall.hide_iptables(node)
    node.agent.start()
    table = node.instance.run(["nft", "list", "table", "ip", "vpc-cni-host"]).stdout
    assert "ip daddr 169.254.172.0/22 ct state new reject" in table
    node.agent.stop()
    node.agent.start()
    assert node.instance.run(["nft", "list", "table", "ip", "vpc-cni-host"]).stdout == table
    firewall.show_iptables(node)


def test_per_pod_rules_and_back(make_node6: Callable[..., Node]) -> None:
    """The contract's rules, as amazon-vpc-cni-k8s leaves them: a node can go to it and come back."""
    node = make_node6(environment={"VPC_CNI_POD_RULES": "per-pod"})
    node.agent.start()
    node.add_pods(3)
    addresses = sorted(pod.address for pod in node.pods)

    assert routes(node, "main") == addresses == pod_rules(node) and not routes(node)
    for scheme in ("constant", "per-pod"):
        node.agent.stop()
        node.agent.environment["VPC_CNI_POD_RULES"] = scheme
        node.agent.start()
        where, empty = ("20512", "main") if scheme == "constant" else ("main", "20512")
        wait_for(lambda: routes(node, where) == addresses and not routes(node, empty), f"the scheme {scheme}", 20)
        assert pod_rules(node) == ([] if scheme == "constant" else addresses)
        assert node.pods[0].ping(node.pods[1].address) and ping(node, node.pods[2].address)


def test_an_excluded_primary_subnet(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    """Pods get the prefix of an ENI in another subnet, and their packets leave by it."""
    ec2, role = vpc.ec2(), "kubernetes.io/role/cni"
    primary = next(each["subnet_id"] for each in vpc.ask("subnets") if each["name"] == "a")
    vpc.ask("subnet.add", name="pods", cidr="192.168.208.0/20", tags={role: "1"})
    ec2.create_tags(Resources=[primary], Tags=[{"Key": role, "Value": "0"}])
    try:
        node, other = make_node6("n1", subnet="a"), make_node6("n2", subnet="b")
        for each in (node, other):
            each.agent.start()
        pods, [far] = node.add_pods(5), other.add_pods(1)
        assert_sound(node)
        first, second = node.enis()
        assert (first["prefixes6"], len(second["prefixes6"]), len(second["addresses6"])) == ([], 1, 1)
        own, [device] = second["addresses6"][0], [link["ifname"] for link in node.ip("link") if link.get("address") == second["mac"]]

        def assert_wired() -> None:
            table = {(route["dst"], route.get("gateway")) for route in node.ip("-6", "route", "show", "table", "2")}
            assert table == {("fe80:ec2::1", None), ("default", "fe80:ec2::1")}, table
            assert {(32765, "2"), (1536, "2"), (512, "20512")} <= rules(node)
            assert not [route for route in node.ip("-6", "route", "show", "table", "main")
                        if route.get("dev") == device and not route["dst"].startswith("fe80:")]
            found = [each for link in node.ip("-6", "address", "show", "dev", device) for each in link.get("addr_info", [])]
            assert [(each["local"], each["prefixlen"]) for each in found if each["scope"] == "global"] == [(own, 64)]

        assert_wired()
        for pod in pods:
            assert pod.ping(far.address) and far.ping(pod.address) and pod.ping(vpc.ready["internet6"])
        assert ping(node, pods[0].address) and pods[0].ping(node.instance.address6) and pods[0].ping(pods[1].address)
        assert vpc.drops()["total"] == 0, json.dumps(vpc.drops())
        node.agent.kill()
        node.instance.run(["ip", "-6", "route", "flush", "table", "2"])
        node.instance.run(["ip", "-6", "rule", "del", "priority", "32765"])
        node.agent.start()
        wait_for(lambda: len(node.ip("-6", "route", "show", "table", "2")) == 2, "the ENI's table", 10)
        assert_wired()
        assert_sound(node)
        node.add_pods(5, prefix="late")
        assert all(pod.ping(far.address) for pod in node.pods)
        assert len(node.enis()) == 2 and vpc.drops()["total"] == 0
    finally:
        ec2.delete_tags(Resources=[primary], Tags=[{"Key": role}])


def test_an_eni_without_ipv6_is_left_alone(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    """Somebody attached it for something else."""
    node, ec2 = make_node6("n1", subnet="a"), vpc.ec2()
    primary = ec2.describe_network_interfaces(NetworkInterfaceIds=[node.enis()[0]["eni"]])["NetworkInterfaces"][0]
    other = ec2.create_network_interface(SubnetId=primary["SubnetId"])["NetworkInterface"]["NetworkInterfaceId"]
    ec2.attach_network_interface(NetworkInterfaceId=other, InstanceId=node.instance.instance_id, DeviceIndex=1)
    node.agent.start()
    node.add_pods(2)
    assert_sound(node)
    assert [len(eni["prefixes6"]) for eni in node.enis()] == [1, 0] and not firewall.lines(node, "pool action failed")
    assert not node.ip("-6", "route", "show", "table", "2")


# MARK: amazon-vpc-cni-k8s


@pytest.fixture
def theirs(make_node6: Callable[..., Node]) -> Node:
    """A node of amazon-vpc-cni-k8s with pods. Only the prefix was assigned by our agent."""
    node = make_node6("theirs", subnet="a")
    node.agent.start()
    node.agent.stop()
    run = node.instance.run
    run(["nft", "flush", "ruleset"])
    for priority in ("512", "32764"):
        run(["ip", "-6", "rule", "del", "priority", priority])
    run(["iptables", "-I", "FORWARD", "-d", "169.254.172.0/22", "-m", "conntrack", "--ctstate", "NEW", "-m", "comment",
         "--comment", "Block Node Local Pod access via IPv4", "-j", "REJECT"])
    network = ipaddress.ip_network(prefixes(node)[0])
    # amazon-vpc-cni-k8s gives out the prefix's first address too.
    agent = ReferenceAgent(node.instance, [{"ip": str(network[number]), "device": 0, "table": 254} for number in range(4)])
    node.pods += [ReferencePod(node.instance, f"old-{number}").create_namespace().add_as_reference() for number in range(4)]
    agent.stop()
    entries = [{"networkName": "aws-cni", "containerID": pod.container, "ifName": "eth0", "ipv6": pod.address,
                "allocationTimestamp": 1700000000000000000,
                "metadata": {"k8sPodNamespace": pod.namespace, "k8sPodName": pod.name, "interfacesCount": 1}} for pod in node.pods]
    run(["sh", "-c", f"cat > {paths.CHECKPOINT}"], input=json.dumps({"version": "vpc-cni-ipam/1", "allocations": entries}))
    return node


def pod_rules(node: Node) -> list[str]:
    return sorted(rule["dst"] for rule in node.ip("-6", "rule", "show") if rule["priority"] == 512 and "dst" in rule)


def test_takeover_and_back(vpc: Simulator, make_node6: Callable[..., Node], theirs: Node) -> None:
    other = make_node6("far", subnet="b")
    other.agent.start()
    [far] = other.add_pods(1)
    addresses = sorted(pod.address for pod in theirs.pods)
    assert pod_rules(theirs) == addresses == routes(theirs, "main"), "the model's own state"
    first, second = theirs.pods[:2]
    flows = [(first, far.address), (far, first.address), (first, second.address), (second, vpc.ready["internet6"])]
    with none_lost(vpc, theirs, flows):
        theirs.agent.start()
        wait_for(lambda: not pod_rules(theirs) and not routes(theirs, "main"), "the old rules and routes are gone", 30)
    assert_sound(theirs)
    ours = theirs.pod("ours").add()
    with none_lost(vpc, theirs, flows):
        theirs.agent.stop()
        theirs.agent.environment["VPC_CNI_POD_RULES"] = "per-pod"
        theirs.agent.start()
        wait_for(lambda: routes(theirs, "main") == pod_rules(theirs) == theirs.held() and not routes(theirs), "as it was", 30)
    theirs.agent.stop()
    agent = ReferenceAgent(theirs.instance, [], [
        {"key": ["aws-cni", entry["containerID"], "eth0"], "ip": entry["ipv6"], "device": 0, "table": 254}
        for entry in theirs.checkpoint()])
    try:
        for pod in [*theirs.pods[:2], ours]:
            assert pod.ping(far.address) and far.ping(pod.address)
            pod.delete()
            assert pod.address not in pod_rules(theirs) + routes(theirs, "main")
    finally:
        agent.stop()


# MARK: bad input


@pytest.mark.parametrize("name, value, word", [
    ("ENABLE_PREFIX_DELEGATION", "false", "each node gets one prefix"),
    ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true", "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG"),
    ("ENABLE_IPv4", "true", "ENABLE_IPv6"),
])
def test_settings_that_do_not_go_with_ipv6(make_node6: Callable[..., Node], name: str, value: str, word: str) -> None:
    node = make_node6(environment={name: value})
    with pytest.raises(RuntimeError, match=word):
        node.agent.start()


def test_an_instance_without_prefixes_is_refused(make_node6: Callable[..., Node]) -> None:
    node = make_node6(type="t2.small")
    with pytest.raises(RuntimeError, match="Nitro"):
        node.agent.start()


def test_a_node_without_an_address_waits_for_one(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    node = make_node6(no_ipv6=True)
    node.agent.start(wait=False)
    wait_for(lambda: any("has no IPv6 address" in line["error"] for line in firewall.lines(node, "cannot read the instance identity")),
             "the log names it", 20)
    vpc.ec2().assign_ipv6_addresses(NetworkInterfaceId=node.enis()[0]["eni"], Ipv6AddressCount=1)
    wait_for(node.agent.healthy, "ready", 20)


def test_ipv6_in_the_agent_alone_is_named(make_node: Callable[..., Node]) -> None:
    """The init container has not run with ENABLE_IPv6=true."""
    node = make_node(environment=IPV6)
    node.agent.start()
    [line] = firewall.lines(node, "kernel settings keep packets from pods")
    assert "net.ipv6.conf.all.forwarding=1" in line["wanted"]
    done = node.instance.run([str(paths.BINARY), "doctor", "--json"], check=False)
    [check] = [each for each in json.loads(done.stdout)["checks"] if each["id"] == "ip-forward"]
    assert check["verdict"] == "broken" and "net.ipv6.conf.all.forwarding=1" in check["remedy"], check


def test_a_prefix_that_ec2_does_not_know_is_not_used(vpc: Simulator, make_node6: Callable[..., Node]) -> None:
    node = make_node6()
    mac = node.enis()[0]["mac"]
    vpc.fault(f"imds:/latest/meta-data/network/interfaces/macs/{mac}/ipv6-prefix", times=-1, http=200, body="2001:db8:1234:1a00:99::/80",
              caller=node.name)
    node.agent.start()
    [pod] = node.add_pods(1)
    assert_sound(node)
    assert not pod.address.startswith("2001:db8:1234:1a00:99:")


def test_pods_of_the_other_family_keep_their_network(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    """Someone turns the family around on a node with pods: a message says so, and each pod works until it ends."""
    node = make_node()
    node.agent.start()
    old = node.add_pods(2)
    init(node)
    node.agent.stop()
    node.agent.environment |= IPV6
    node.agent.start()
    [line] = firewall.lines(node, "pods of the other address family are running")
    assert line["count"] == "2"
    new = node.add_pods(2, prefix="new")
    assert old[0].ping(old[1].address) and new[0].ping(new[1].address)
    node.agent.stop()
    node.agent.environment |= {"ENABLE_IPv4": "true", "ENABLE_IPv6": "false", "ENABLE_PREFIX_DELEGATION": "false"}
    node.agent.start()
    assert old[0].ping(old[1].address) and new[0].ping(new[1].address)
    node.delete_pods()
    wait_for(lambda: not node.pod_veths() and not routes(node) and not node.pod_routes() and not node.checkpoint(), "clean", 10)
