"""The plugin in a list with Debian's core plugins, and with meta plugins around it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import conflist, paths
from harness.conflist import aws_cni, bandwidth, firewall, portmap, tuning
from harness.containerd import Containerd
from harness.libcni import Attachment, NetworkList, PluginRefused
from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

VERSIONS = ["0.3.1", "0.4.0", "1.0.0"]  # the versions that Debian's plugins support
HOST_PORT, POD_PORT = 18080, 8080

pytestmark = pytest.mark.skipif(not os.path.exists(f"{conflist.CORE_PLUGINS}/portmap"),
                                reason="needs containernetworking-plugins: `make setup`")


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    made = make_node("chain", type="m5.large", subnet="a", environment={"IP_COOLDOWN_PERIOD": "0"})
    made.agent.start()
    made.instance.run(["sh", "-c", f"ln -sf {conflist.CORE_PLUGINS}/* /opt/cni/bin"])
    return made


def chain(node: Node, network: dict[str, Any]) -> NetworkList:
    def run(path: str, environment: dict[str, str], text: str) -> tuple[int, str, str]:
        done = node.instance.run([path], check=False, env=environment, input=text)
        return done.returncode, done.stdout, done.stderr

    return NetworkList(network, run, lambda kind: f"/opt/cni/bin/{kind}")


def attachment(pod: Pod, **runtime: Any) -> Attachment:
    return Attachment(pod.container, pod.netns, pod.interface, pod.environment("ADD")["CNI_ARGS"], runtime)


def core(node: Node, pod: Pod) -> dict[str, Any]:
    """What Debian's plugins have set up for this pod on the node."""
    rules = node.instance.run(["iptables-save"]).stdout.splitlines()
    return {"rules": [line for line in rules if pod.container[:12] in line or pod.address in line],
            "ifb": [link["ifname"] for link in node.ip("link", "show", "type", "ifb")]}


class Server:
    """Answers every TCP connection to a port in a pod's namespace with the address of the peer."""

    PROGRAM = ("import socket\ns = socket.create_server(('', %d))\nprint('ready', flush=True)\n"
               "while True:\n    c, peer = s.accept()\n    c.sendall(peer[0].encode())\n    c.close()\n")

    def __init__(self, command: list[str], instance: Any) -> None:
        self._process = instance.popen([*command, sys.executable, "-c", self.PROGRAM % POD_PORT], stdout=-1)
        assert self._process.stdout.readline() == b"ready\n"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def ask(run: Callable[..., Any], address: str, port: int) -> str:
    """The server's answer; empty if the server cannot be reached."""
    program = (f"import socket\nc = socket.create_connection(('{address}', {port}), 3)\nprint(c.recv(64).decode())\n")
    return run([sys.executable, "-c", program], check=False).stdout.strip()


@pytest.mark.parametrize("version", VERSIONS)
def test_with_the_core_plugins(vpc: Simulator, node: Node, make_node: Callable[..., Node], version: str) -> None:
    """Each plugin does its work on the pod, the result passes through all plugins unchanged, and DEL leaves nothing."""
    other = make_node("elsewhere", type="m5.large", subnet="b")
    # There are pods on both ENIs: from either ENI the replies of hostPort must leave by the primary ENI.
    filling = node.add_pods(8, prefix="fill")
    limits = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000}
    settings = {"portMappings": [{"hostPort": HOST_PORT, "containerPort": POD_PORT, "protocol": "tcp"}], "bandwidth": limits}
    # Debian's firewall plugin does not support lists below 0.4.0.
    behind = [portmap(), bandwidth(), tuning(), *([firewall()] if version >= "0.4.0" else [])]
    network = chain(node, conflist.conflist(aws_cni(), *behind, version=version))
    indices = set()
    for number in range(3):
        pod = node.pod(f"web-{number}", version=version)
        attached = attachment(pod, **settings)
        pod.result = network.add(attached)
        own = network.seen[0][1]
        assert own is not None and own["cniVersion"] == version
        # bandwidth appends its own device to the interfaces it was given; the entries before it are unchanged.
        assert pod.result["interfaces"][:3] == own["interfaces"] and pod.result["ips"] == own["ips"]
        assert [each["name"][:3] for each in pod.result["interfaces"][3:]] == ["bwp"]
        indices |= {eni["index"] for eni in node.enis() if pod.address in eni["addresses"]}
        vpc.drops(reset=True)
        assert pod.ping(INTERNET)
        assert pod.exec(["cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6"]).stdout == "1\n"
        assert "tbf" in node.instance.run(["tc", "qdisc", "show", "dev", pod.host_veth]).stdout
        with Server(["nsenter", f"--net={pod.netns}"], node.instance):
            assert ask(other.instance.run, node.instance.address, HOST_PORT) == other.instance.address
            assert ask(node.instance.run, node.instance.address, HOST_PORT), "from the node itself"
        assert vpc.drops()["total"] == 0, vpc.drops()
        if version >= "0.4.0":
            # For a pod without IPv6, Debian's portmap looks for an IPv6 chain that it did not create.
            network.check(attached, but=("portmap",))
        assert any(core(node, pod).values())
        network.delete(attached)
        network.delete(attached)
        assert not any(core(node, pod).values()), core(node, pod)
        # A pod made without the plugin chain holds this address, so the next pod gets another one.
        filling.append(node.pod(f"holder-{number}").add())
    assert indices == {0, 1}, "pods of both ENIs were tried"
    node.delete_pods(filling)
    node.wait_clean()


def test_alone_with_the_newest_version(node: Node) -> None:
    """Debian's plugins do not support 1.1.0; our plugin also supports its STATUS and GC."""
    network = chain(node, conflist.conflist(aws_cni(), version="1.1.0"))
    network.status()
    pods = [node.pod(f"new-{number}", version="1.1.0") for number in range(2)]
    attached = [attachment(pod) for pod in pods]
    for pod, each in zip(pods, attached):
        pod.result = network.add(each)
        assert "version" not in pod.result["ips"][0]
        network.check(each)
    network.collect([attached[0]])
    assert [entry["ipv4"] for entry in node.checkpoint()] == [pods[0].address], "the one that is not valid has gone"
    network.check(attached[0])
    for each in attached:
        network.delete(each)
    node.wait_clean()
    node.agent.kill()
    with pytest.raises(PluginRefused) as refused:
        network.status()
    assert refused.value.error["code"] == 50


@pytest.mark.parametrize("version", [*VERSIONS, "1.1.0"])
def test_behind_another_plugin(node: Node, version: str) -> None:
    """Our plugin passes on the result of the plugin before it, known fields or not, and CHECK and DEL find our own
    entries in that result."""
    before = {
        "cniVersion": version, "interfaces": [{"name": "uplink0", "mac": "02:00:00:00:00:07"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0} | ({"version": "4"} if version < "1.0.0" else {})],
        "routes": [{"dst": "192.0.2.0/24"}], "dns": {"nameservers": ["192.0.2.53"]}, "example.org/kept": True}
    program = f"#!/bin/sh\n[ \"$CNI_COMMAND\" != ADD ] || cat <<'END'\n{json.dumps(before)}\nEND\n"
    node.instance.run(["sh", "-c", "cat >/opt/cni/bin/first && chmod +x /opt/cni/bin/first"], input=program)
    behind = [portmap(), tuning()] if version != "1.1.0" else []
    network = chain(node, conflist.conflist({"type": "first"}, aws_cni(), *behind, version=version))
    pod = node.pod("second", version=version)
    attached = attachment(pod)
    network.add(attached)
    result = network.seen[1][1]
    assert result is not None
    assert {key: result[key] for key in ("cniVersion", "routes", "dns", "example.org/kept")} == {
        key: before[key] for key in ("cniVersion", "routes", "dns", "example.org/kept")}
    assert result["interfaces"][0] == before["interfaces"][0] and result["ips"][0] == before["ips"][0]
    assert [each["name"][:4] for each in result["interfaces"]] == ["upli", result["interfaces"][1]["name"][:4], "eth0", "dumm"]
    assert result["ips"][1]["interface"] == 2
    address = result["ips"][1]["address"].removesuffix("/32")
    assert node.instance.run(["ping", "-c1", "-w2", address], check=False).returncode == 0
    if version >= "0.4.0":
        network.check(attached)
    # Without an agent the result must be enough; lists below 0.4.0 pass no result, and the agent reclaims the address later.
    node.agent.kill()
    network.delete(attached)
    if version >= "0.4.0":
        assert not node.pod_veths() and not node.pod_routes()
    pod.remove_namespace()
    wait_for(lambda: not node.pod_veths(), "its veth went with the namespace")
    node.agent.start()
    node.wait_clean()


def test_under_a_meta_plugin(vpc: Simulator, node: Node) -> None:
    """The setup of Multus: our plugin makes the pod's network, another plugin a second interface; all is removed again."""
    install_meta(node)
    second = {"type": "macvlan", "master": "ens5", "mode": "bridge", "ipam": {
        "type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24"}]], "dataDir": "/run/second-ipam"}}
    meta = {"type": "meta", "capabilities": {"portMappings": True}, "delegates": [
        conflist.conflist(), conflist.conflist(second, name="second")]}
    network = chain(node, conflist.conflist(meta, version="0.4.0", name="meta-network"))
    pods = [node.pod(f"meta-{number}") for number in range(2)]
    attached = [attachment(pod, portMappings=[]) for pod in pods]
    for pod, each in zip(pods, attached):
        pod.result = network.add(each)
        assert {link["ifname"] for link in json.loads(pod.exec(["ip", "-json", "link"]).stdout)} == {"lo", "eth0", "net1"}
        network.check(each)
    vpc.drops(reset=True)
    assert pods[0].ping(pods[1].address) and pods[1].ping(INTERNET)
    address = json.loads(pods[1].exec(["ip", "-json", "address", "show", "net1"]).stdout)[0]["addr_info"][0]["local"]
    assert address.startswith("192.0.2.") and pods[0].ping(address), "by the second network"
    assert vpc.drops()["total"] == 0
    for each in attached:
        network.delete(each)
        network.delete(each)
    node.wait_clean()


def test_meta_plugin_cannot_take_the_first_network_away(node: Node) -> None:
    """Our network is requested twice, and both requests would use the same host interface. The second one is refused, and
    the first one keeps working."""
    install_meta(node)
    pod = node.pod("greedy").add()
    twice = {**pod.environment("ADD"), "CNI_IFNAME": "net1"}
    done = node.instance.run([paths.PLUGIN], check=False, env=twice, input=json.dumps(pod.configuration()))
    assert done.returncode == 1 and "is the other end of the pod's eth0" in json.loads(done.stdout)["msg"], done.stdout
    pod.check()
    assert pod.ping(INTERNET)
    assert [entry["ipv4"] for entry in node.checkpoint()] == [pod.address], "the second address went back"
    node.delete_pods([pod])
    node.wait_clean()


def test_host_port_by_a_real_runtime(
    vpc: Simulator, node: Node, make_node: Callable[..., Node], make_runtime: Callable[..., Containerd],
) -> None:
    """The contract's conflist unchanged: containerd's CNI library, portmap, and a container that answers."""
    other = make_node("asker", type="m5.large", subnet="b")
    runtime = make_runtime(node)
    sandbox = runtime.run_pod("web", ports=[("tcp", HOST_PORT, POD_PORT)])
    runtime.run_container(sandbox, "httpd", Containerd.BUSYBOX,
                          ["sh", "-c", f"echo by host port >/tmp/index.html; exec httpd -f -p {POD_PORT} -h /tmp"])
    vpc.drops(reset=True)

    def fetched() -> bool:
        url = f"http://{node.instance.address}:{HOST_PORT}/index.html"
        return "by host port" in other.instance.run(["curl", "-s", "--max-time", "3", "--noproxy", "*", url], check=False).stdout

    wait_for(fetched, "the page by the node's port", 20)
    assert vpc.drops()["total"] == 0, vpc.drops()
    runtime.stop_pod(sandbox)
    assert not fetched()
    runtime.remove_pod(sandbox)
    node.wait_clean()


def install_meta(node: Node) -> None:
    tests = Path(__file__).resolve().parent
    program = f"#!/bin/sh\nPYTHONPATH={tests} exec {sys.executable} -m harness.libcni\n"
    node.instance.run(["sh", "-c", "cat >/opt/cni/bin/meta && chmod +x /opt/cni/bin/meta"], input=program)
