"""egress-cni: IPv4 egress for the pods of IPv6 clusters, IPv6 egress for the pods of IPv4 clusters."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness import conflist, egress, ipv6
from harness.egress import IPV4, IPV6, Direction, bare_pod, call, configuration, is_clean, leftovers, reserved, rules
from harness.entrypoint import Entrypoint
from harness.libcni import Attachment, NetworkList
from harness.node import Node
from harness.pod import Pod, PluginFailure
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS

SIMULATOR = {"family": "dual"}
both = pytest.mark.parametrize("direction", [IPV4, IPV6], ids=["v4", "v6"])


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A node on which the init container has run, and no agent."""
    made = make_node("egress", type="m5.large", subnet="a")
    egress.install(made, {"ENABLE_V6_EGRESS": "true"})
    return made


def client(pod: Pod, address: str) -> str:
    """The source address that a web server sees."""
    host = f"[{address}]" if ":" in address else address
    return pod.exec(["curl", "-s", "--max-time", "5", "--noproxy", "*", f"http://{host}/"], check=False).stdout.strip()


def chain(direction: Direction, pod: Pod) -> str:
    return direction.chain + hashlib.sha512(f"aws-cni{pod.container}".encode()).hexdigest()[:21]


def expected_rules(node: Node, direction: Direction, pod: Pod, address: str, ports: str = " --random-fully") -> set[str]:
    name, comment = chain(direction, pod), f'-m comment --comment "name: \\"aws-cni\\" id: \\"{pod.container}\\""'
    single, multicast = (f"{address}/32", "224.0.0.0/4") if direction.family == 4 else (f"{address}/128", "ff00::/8")
    return {f":{name} - [0:0]", f"-A {name} -d {multicast} {comment} -j ACCEPT",
            f"-A {name} {comment} -j SNAT --to-source {direction.node_address(node)}{ports}",
            f"-A POSTROUTING -s {single} {comment} -j {name}"}


def assert_golden(node: Node, direction: Direction, pod: Pod, result: dict[str, Any], address: str, container: str) -> None:
    """The contract's state of one pod in the kernel and in files, and the two interfaces in the result."""
    host, inside = result["interfaces"][-2:]
    assert re.fullmatch("veth[0-9a-f]{8}", host["name"]) and "sandbox" not in host
    assert inside["name"] == direction.interface and inside["sandbox"] == pod.netns
    assert set(rules(node, direction)) == expected_rules(node, direction, pod, address)
    assert reserved(node, direction) == {address: f"{container}\r\neth0"}
    modes = node.instance.run(["stat", "-c", "%a %n", *(f"{direction.reservations}/{name}" for name in (
        ".", address, "last_reserved_ip.0"))]).stdout.split()[::2]
    assert modes == ["755", "600", "600"]
    [link] = node.ip("-d", "link", "show", host["name"])
    assert link["address"] == host["mac"] and link["mtu"] == 9001 and "UP" in link["flags"]
    [link] = json.loads(pod.exec(["ip", "-json", "link", "show", direction.interface]).stdout)
    assert link["address"] == inside["mac"] and link["mtu"] == 9001 and "UP" in link["flags"]
    [route] = node.ip(f"-{direction.family}", "route", "show", address)
    assert route["dev"] == host["name"]
    own = [(each["local"], each["prefixlen"], each["scope"]) for each in node.ip("address", "show", host["name"])[0]["addr_info"]]
    routes = pod.exec(["ip", f"-{direction.family}", "route", "show", "dev", direction.interface]).stdout
    seen = {" ".join(line.split()) for line in routes.splitlines()}
    if direction.family == 4:
        assert route.get("scope") == "link" and own == [("169.254.172.1", 32, "link")]
        assert seen == {"default via 169.254.172.1", f"169.254.172.0/22 via 169.254.172.1 src {address}",
                        f"169.254.172.1 scope link src {address}"}
    else:
        [(router, length, scope)] = own
        assert router.startswith("fe80::") and (length, scope) == (128, "link")
        assert any(line.startswith(f"default via {router} metric 1024") for line in seen), seen
        assert any(line.startswith("fd00::ac:0/118 proto kernel") for line in seen), seen
        assert pod.exec(["cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"]).stdout == "1\n"


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
@both
def test_a_pod_reaches_the_other_family(vpc: Simulator, node: Node, direction: Direction, version: str) -> None:
    pod = bare_pod(node, "web", version=version)
    config = configuration(node, direction, pod)
    result = call(node, pod, "ADD", config)
    own = result["interfaces"][2:]
    assert len(own) == 2 and result == {**config["prevResult"], "interfaces": config["prevResult"]["interfaces"] + own}
    assert_golden(node, direction, pod, result, direction.first, pod.container)
    vpc.drops(reset=True)
    internet = INTERNET_ADDRESS if direction.family == 4 else vpc.ready["internet6"]
    assert client(pod, internet) == direction.node_address(node)
    assert pod.ping(internet) and vpc.drops()["total"] == 0, json.dumps(vpc.drops())
    assert call(node, pod, "CHECK", {**config, "prevResult": result}) == {}
    for _ in range(3):
        assert call(node, pod, "DEL", {**config, "prevResult": result}) == {}
    pod.remove_namespace()
    wait_for(lambda: is_clean(node, direction), "nothing is left")


@both
def test_pods_of_a_cluster(vpc: Simulator, make_node: Callable[..., Node], direction: Direction) -> None:
    """Behind aws-cni, with an agent: pods reach both families, and nobody reaches another pod by its node-local address."""
    environment = ipv6.IPV6 if direction.family == 4 else {"ENABLE_V6_EGRESS": "true"}
    node = make_node("cluster", type="m5.large", subnet="a", environment=environment)
    egress.install(node, {name: value for name, value in environment.items() if name != "ENABLE_PREFIX_DELEGATION"})
    node.agent.start()
    pods = node.add_pods(2)
    configs = {pod.name: {**egress.entry(node, direction), "cniVersion": pod.version, "name": "aws-cni", "prevResult": pod.result}
               for pod in pods}
    for pod in pods:
        call(node, pod, "ADD", configs[pod.name])
    outside = {4: INTERNET_ADDRESS, 6: vpc.ready["internet6"]}
    own = {4: node.instance.address, 6: node.instance.address6}
    for pod in pods:
        assert client(pod, outside[direction.family]) == own[direction.family]
        native = 10 - direction.family
        assert client(pod, outside[native]) == (pod.address if native == 6 else own[4])
    first, second = sorted(reserved(node, direction))
    assert not pods[0].ping(second) and not pods[1].ping(first), "the guard in FORWARD"
    saved = node.instance.run([f"{direction.iptables}-save", "-t", "filter"]).stdout
    assert saved.count(f"Block Node Local Pod access via IPv{direction.family}") == 1
    node.agent.stop()
    node.agent.start()
    assert node.instance.run([f"{direction.iptables}-save", "-t", "filter"]).stdout.count("Block Node Local Pod") == 1
    for pod in pods:
        call(node, pod, "DEL", configs[pod.name])
        pod.delete()
        pod.remove_namespace()
    wait_for(lambda: is_clean(node, direction) and not any(node.leftovers().values()), "nothing is left")


@pytest.fixture
def make_entrypoint() -> Iterator[Callable[..., Entrypoint]]:
    made: list[Entrypoint] = []

    def make(node: Node, **environment: str) -> Entrypoint:
        made.append(Entrypoint(node, environment))
        return made[-1].start().wait_conflist(60)

    yield make
    for each in made:
        each.close()


def test_in_the_list_of_the_entrypoint(
    vpc: Simulator, make_node: Callable[..., Node], make_entrypoint: Callable[..., Entrypoint],
) -> None:
    """Behind the real aws-cni on an IPv4 node: both families work, Kubernetes sees one address, DEL leaves nothing, also of
    pods that started before the feature was switched off."""
    node = make_node("list", type="m5.large", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0"})
    egress.install(node, {"ENABLE_V6_EGRESS": "true"})
    node.instance.run(["sh", "-c", f"ln -sf {conflist.CORE_PLUGINS}/portmap /opt/cni/bin"])

    def run(path: str, environment: dict[str, str], text: str) -> tuple[int, str, str]:
        done = node.instance.run([path], check=False, env=environment, input=text)
        return done.returncode, done.stdout, done.stderr

    def network_list(entrypoint: Entrypoint) -> NetworkList:
        return NetworkList(json.loads(entrypoint.conflist()), run, lambda kind: f"/opt/cni/bin/{kind}")

    def add(name: str) -> tuple[Pod, Attachment]:
        pod = node.pod(name)
        attached = Attachment(pod.container, pod.netns, pod.interface, pod.environment("ADD")["CNI_ARGS"], {})
        pod.result = network.add(attached)
        return pod, attached

    entrypoint = make_entrypoint(node, ENABLE_V6_EGRESS="true")
    network = network_list(entrypoint)
    assert network.network["plugins"][1] == {**egress.entry(node, IPV6), "pluginLogLevel": "Debug"}
    pods = [add(f"web-{number}") for number in range(3)]
    vpc.drops(reset=True)
    for pod, _ in pods:
        assert pod.result is not None and len(pod.result["ips"]) == 1
        assert [each["name"][:4] for each in pod.result["interfaces"]] == ["eni" + pod.host_veth[3], "eth0", "dumm", "veth", "v6if"]
        assert pod.ping(INTERNET_ADDRESS) and pod.ping(pods[0][0].address)
        assert client(pod, vpc.ready["internet6"]) == node.instance.address6
    assert vpc.drops()["total"] == 0, json.dumps(vpc.drops())

    assert entrypoint.terminate() == 0
    off = network_list(make_entrypoint(node))
    assert [off.network["plugins"][1][key] for key in ("type", "enabled", "nodeIP")] == ["egress-cni", "false", ""]
    off.results = network.results
    for _, attached in pods:
        off.delete(attached)
        off.delete(attached)
    for pod, _ in pods:
        pod.remove_namespace()
    node.wait_clean()
    wait_for(lambda: is_clean(node, IPV6), "nothing is left")


def test_a_node_without_ipv6(make_node: Callable[..., Node], make_entrypoint: Callable[..., Entrypoint]) -> None:
    node = make_node("plain", type="m5.large", subnet="a", no_ipv6=True)
    entrypoint = make_entrypoint(node, ENABLE_V6_EGRESS="true")
    plugin = json.loads(entrypoint.conflist())["plugins"][1]
    assert plugin["type"] == "egress-cni" and plugin["enabled"] == "false" and plugin["nodeIP"] == ""
    assert "ENABLE_V6_EGRESS is true, but the node has no IPv6 address: egress-cni is disabled" in entrypoint.log()


@both
def test_delete_without_a_namespace(node: Node, direction: Direction) -> None:
    """amazon-vpc-cni-k8s leaks the chain then: it looks for the address on the pod's interface."""
    pods = [bare_pod(node, f"gone-{number}") for number in range(3)]
    for pod in pods:
        call(node, pod, "ADD", configuration(node, direction, pod))
    for pod, netns in zip(pods, ["", "/run/netns/never", "/etc/passwd"]):
        pod.remove_namespace()
        call(node, pod, "DEL", configuration(node, direction, pod), netns=netns)
    wait_for(lambda: is_clean(node, direction), "nothing is left")


@both
def test_switched_off_later(node: Node, direction: Direction) -> None:
    """Pods that were made before are still cleaned up; new ones get nothing."""
    pod = bare_pod(node, "before")
    config = configuration(node, direction, pod)
    call(node, pod, "ADD", config)
    off = {"enabled": "false", "nodeIP": ""}
    other = bare_pod(node, "after")
    config_off = configuration(node, direction, other, **off)
    assert call(node, other, "ADD", config_off) == config_off["prevResult"]
    assert direction.interface not in other.exec(["ip", "link"]).stdout
    assert list(reserved(node, direction)) == [direction.first]
    programs = node.instance.run(["strace", "-f", "-e", "trace=execve", egress.PROGRAM], env=other.environment("DEL"),
                                 input=json.dumps(config_off)).stderr
    assert programs.count("execve(") == 1, "it starts no program for a pod without a reservation"
    call(node, pod, "DEL", {**config, **off})
    pod.remove_namespace()
    wait_for(lambda: is_clean(node, direction), "nothing is left")


@both
def test_a_full_range(node: Node, direction: Direction) -> None:
    """The files are made by hand, as 1021 (IPv6: 1022) pods would leave them."""
    program = ("import ipaddress, pathlib\n"
               f"folder = pathlib.Path('{direction.reservations}'); folder.mkdir(parents=True)\n"
               f"for address in list(ipaddress.ip_network('{direction.subnet}').hosts())[1:]:\n"
               "    (folder / str(address)).write_bytes(b'other\\r\\neth0')\n")
    node.instance.run(["python3", "-c", program])
    count = len(reserved(node, direction))
    assert count == (1021 if direction.family == 4 else 1022)
    pod = bare_pod(node, "late")
    with pytest.raises(PluginFailure) as failure:
        call(node, pod, "ADD", configuration(node, direction, pod))
    text = failure.value.error["msg"]
    assert "no IP addresses available in range set" in text and f"all {count} are reserved" in text and direction.reservations in text
    left = leftovers(node, direction)
    assert len(left.pop("reserved")) == count and not any(left.values()), left
    free = "169.254.173.77" if direction.family == 4 else "fd00::ac:77"
    node.instance.run(["rm", f"{direction.reservations}/{free}"])
    call(node, pod, "ADD", configuration(node, direction, pod))
    assert reserved(node, direction)[free] == f"{pod.container}\r\neth0"
    call(node, pod, "DEL", configuration(node, direction, pod))
    assert len(reserved(node, direction)) == count - 1 and not rules(node, direction)


@both
def test_a_route_of_an_earlier_pod(node: Node, direction: Direction) -> None:
    family = f"-{direction.family}"
    node.instance.run(["ip", family, "route", "add", direction.first, "dev", "ens5"])
    pod = bare_pod(node, "next")
    config = configuration(node, direction, pod)
    with pytest.raises(PluginFailure) as failure:
        call(node, pod, "ADD", config)
    assert "stale route still exists after 5 attempts" in failure.value.error["msg"]
    assert f"ip route del {direction.first} dev ens5" in failure.value.error["msg"]
    assert is_clean(node, direction), leftovers(node, direction)
    assert direction.interface not in pod.exec(["ip", "link"]).stdout
    # The next address is free, and the first one comes last.
    node.instance.run(["sh", "-c", f"printf %s {direction.first.removesuffix('2')}1 >{direction.reservations}/last_reserved_ip.0"])
    process = node.instance.popen([egress.PROGRAM], env=pod.environment("ADD"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(config).encode())
    process.stdin.close()
    wait_for(lambda: direction.interface in pod.exec(["ip", "link"]).stdout, "it waits for the route")
    node.instance.run(["ip", family, "route", "del", direction.first, "dev", "ens5"])
    result = json.loads(process.stdout.read())
    assert process.wait() == 0, result
    assert_golden(node, direction, pod, result, direction.first, pod.container)


@both
def test_failures_leave_nothing(node: Node, direction: Direction) -> None:
    """At each step: no iptables, a refused rule, a missing first interface, a namespace that is none."""
    pod = bare_pod(node, "failing")
    config = configuration(node, direction, pod)

    def failure(**options: Any) -> str:
        with pytest.raises(PluginFailure) as raised:
            call(node, pod, "ADD", **({"config": config} | options))
        assert is_clean(node, direction), leftovers(node, direction)
        assert direction.interface not in pod.exec(["ip", "link"]).stdout
        return raised.value.error["msg"]

    hidden = "".join(f"mount --bind /dev/null /usr/sbin/xtables-{kind}-multi && " for kind in ("nft", "legacy"))
    text = failure(prefix=["unshare", "-m", "sh", "-c", hidden + 'exec "$0"'])
    assert f"the node has no program {direction.iptables}: install the iptables package" in text
    assert "is not a network namespace" in failure(netns="/run/netns/never")
    assert "should not be the same" in failure(netns="/proc/self/ns/net")
    assert "egress-cni follows aws-cni" in failure(config={key: value for key, value in config.items() if key != "prevResult"})
    if direction.family == 6:
        pod.exec(["ip", "link", "del", "eth0"])
        assert "the pod has no interface eth0" in failure()
        node.instance.run(["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])
        pod.exec(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0"])
        assert "net.ipv6.conf.default.disable_ipv6=0" in failure()


@both
def test_one_address_for_a_container(node: Node, direction: Direction) -> None:
    pod = bare_pod(node, "twice")
    config = configuration(node, direction, pod)
    result = call(node, pod, "ADD", config)
    with pytest.raises(PluginFailure) as failure:
        call(node, pod, "ADD", config)
    assert f"{direction.first} has been allocated to {pod.container}, duplicate allocation" in failure.value.error["msg"]
    assert_golden(node, direction, pod, result, direction.first, pod.container)
    # The same sandbox again, after its DEL.
    call(node, pod, "DEL", {**config, "prevResult": result})
    result = call(node, pod, "ADD", config)
    second = direction.first.removesuffix("2") + "3"
    assert_golden(node, direction, pod, result, second, pod.container)


@both
def test_many_pods_at_once(node: Node, direction: Direction) -> None:
    pods = [bare_pod(node, f"many-{number}") for number in range(24)]
    with ThreadPoolExecutor(12) as workers:
        list(workers.map(lambda pod: call(node, pod, "ADD", configuration(node, direction, pod)), pods))
        assert len(reserved(node, direction)) == 24 and len(rules(node, direction)) == 4 * 24
        list(workers.map(lambda pod: call(node, pod, "DEL", configuration(node, direction, pod)), pods))
    for pod in pods:
        pod.remove_namespace()
    wait_for(lambda: is_clean(node, direction), "nothing is left")


@pytest.mark.skipif(not os.path.exists(f"{conflist.CORE_PLUGINS}/host-local"), reason="needs containernetworking-plugins: `make setup`")
@both
def test_state_of_the_other_product(node: Node, direction: Direction) -> None:
    """host-local and iptables called one after the other, as amazon-vpc-cni-k8s does, and the DEL of each for the other's."""
    ours, theirs = bare_pod(node, "ours"), bare_pod(node, "theirs")
    config = configuration(node, direction, theirs)
    host_local = f"{conflist.CORE_PLUGINS}/host-local"
    given = json.loads(node.instance.run([host_local], env=theirs.environment("ADD"), input=json.dumps(config)).stdout)
    address = given["ips"][0]["address"].split("/")[0]
    assert address == direction.first
    name, comment = chain(direction, theirs), ["-m", "comment", "--comment", f'name: "aws-cni" id: "{theirs.container}"']
    multicast, length = ("224.0.0.0/4", 32) if direction.family == 4 else ("ff00::/8", 128)
    for words in (["-N", name], ["-A", name, "-d", multicast, "-j", "ACCEPT", *comment],
                  ["-A", name, "-j", "SNAT", "--to-source", direction.node_address(node), *comment, "--random-fully"],
                  ["-A", "POSTROUTING", "-s", f"{address}/{length}", "-j", name, *comment]):
        node.instance.run([direction.iptables, "--wait", "-t", "nat", *words])
    assert set(rules(node, direction)) == expected_rules(node, direction, theirs, address)
    assert reserved(node, direction) == {address: f"{theirs.container}\r\neth0"}
    call(node, ours, "ADD", configuration(node, direction, ours))
    call(node, theirs, "DEL", config, netns="")
    second = direction.first.removesuffix("2") + "3"
    assert reserved(node, direction) == {second: f"{ours.container}\r\neth0"}
    assert set(rules(node, direction)) == expected_rules(node, direction, ours, second)
    # What amazon-vpc-cni-k8s does at DEL.
    node.instance.run([host_local], env=ours.environment("DEL"), input=json.dumps(config))
    name, comment = chain(direction, ours), ["-m", "comment", "--comment", f'name: "aws-cni" id: "{ours.container}"']
    for words in (["-D", "POSTROUTING", "-s", f"{second}/{length}", "-j", name, *comment], ["-F", name], ["-X", name]):
        node.instance.run([direction.iptables, "--wait", "-t", "nat", *words])
    ours.remove_namespace()
    wait_for(lambda: is_clean(node, direction), "nothing is left")


# MARK: crashes

STEPS = "linkat,sendmsg,sendto,write,clone,clone3,vfork,wait4,waitid,setns"


def traced(node: Node, pod: Pod, config: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    return node.instance.run(["strace", "-o", "/run/steps", "-e", f"trace={STEPS}", *options, egress.PROGRAM], check=False,
                             env=pod.environment("ADD"), input=json.dumps(config))


@both
def test_killed_at_each_step(node: Node, direction: Direction) -> None:
    """SIGKILL at each system call that changes something. The runtime's DEL has no result then, and cleans everything."""
    survey = bare_pod(node, "survey")
    config = configuration(node, direction, survey)
    assert traced(node, survey, config).returncode == 0
    lines = node.instance.run(["cat", "/run/steps"]).stdout.splitlines()
    steps = Counter(line.partition("(")[0] for line in lines if "(" in line)
    assert sum(steps.values()) > 8, steps
    call(node, survey, "DEL", config)
    pod = survey
    for step, count in steps.items():
        for when in range(1, count + 1):
            pod.remove_namespace()
            pod = bare_pod(node, f"{step}-{when}")
            done = traced(node, pod, config, "-e", f"inject={step}:signal=SIGKILL:when={when}")
            # How often it looks for iptables' end depends on the machine.
            assert done.returncode != 0 or step == "wait4", (step, when)
            call(node, pod, "DEL", configuration(node, direction, pod, has_result=False))
            assert is_clean(node, direction), (step, when, leftovers(node, direction))
    # The same namespace still works.
    result = call(node, pod, "ADD", configuration(node, direction, pod))
    assert result["interfaces"][-1]["name"] == direction.interface
