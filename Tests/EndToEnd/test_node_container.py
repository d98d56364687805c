"""The image and the DaemonSet's pod in a real container runtime, from an empty node to a node on which pods start."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import paths
from harness.containerd import Containerd
from harness.daemonset import CONFLIST, AwsNode, ImageMissing, build_image, find, render
from harness.ipv6 import IPV6, init
from harness.node import Node
from harness.waiting import wait_for
from kubeapi.client import KubeAPI, agent_pod, cni_node, eni_config, node as kube_node, pod as kube_pod
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET

SIMULATOR = {"family": "dual"}
IMAGE = "localhost/vpc-cni:dev"


@pytest.fixture(scope="session")
def image() -> Path:
    try:
        return build_image()
    except ImageMissing as reason:
        if os.environ.get("REQUIRE_ALL"):
            raise
        pytest.skip(str(reason))


@pytest.fixture
def make_pod(
    image: Path, make_node: Callable[..., Node], make_runtime: Callable[..., Containerd],
) -> Iterator[Callable[..., AwsNode]]:
    """A node with containerd and without any of our files, and the DaemonSet's pod, not yet started."""
    pods: list[AwsNode] = []

    def make(name: str, overlay: str = "default", environment: dict[str, str] | None = None, **options: Any) -> AwsNode:
        node = make_node(name, **{"type": "m5.large", "subnet": "a", **options})
        runtime = make_runtime(node, None)
        node.instance.run(["sh", "-c", "rm -f /opt/cni/bin/*"])
        runtime.import_archive(image, IMAGE)
        pod = AwsNode(node, runtime, overlay, environment)
        pods.append(pod)
        return pod

    yield make
    for pod in pods:
        if pod.sandbox is not None:
            print(f"--- {pod.pod_name}\n{pod.log()}")
        pod.remove()


def memory(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines) if key in ("RssAnon", "VmRSS")}


def test_from_nothing_to_pods(vpc: Simulator, make_pod: Callable[..., AwsNode], make_node: Callable[..., Node]) -> None:
    """The result of `kubectl apply -k manifests/overlays/default` on one node."""
    far = make_node("far", type="m5.large", subnet="b")
    far.agent.start()
    there = far.pod("there").add()
    pod = make_pod("fresh")
    node, runtime = pod.node, pod.runtime
    assert not runtime.network_ready(), "a node without a conflist is NotReady"
    default = node.instance.run(["sysctl", "-n", "net.ipv4.conf.default.rp_filter"]).stdout
    began = time.monotonic()
    pod.start()
    wait_for(lambda: pod.conflist() != "", "the conflist", 60)
    seconds = time.monotonic() - began
    pod.wait_ready()

    installed = set(node.instance.run(["ls", "/opt/cni/bin"]).stdout.split())
    assert {"aws-cni", "egress-cni", "aws-cni-support.sh", "loopback", "portmap", "bandwidth", "tuning", "host-local"} <= installed
    assert not [name for name in installed if ".tmp" in name]
    assert node.instance.run(["cmp", paths.PLUGIN, str(paths.BINARY)], check=False).returncode == 0
    conflist = json.loads(pod.conflist())
    assert [each["type"] for each in conflist["plugins"]] == ["aws-cni", "egress-cni", "portmap"]
    assert node.instance.run(["sysctl", "-n", "net.ipv4.conf.default.rp_filter"]).stdout == default, "the pods' is left"

    wait_for(runtime.network_ready, "the runtime's network", 20)
    vpc.drops(reset=True)
    # More pods than the primary ENI holds: the agent wires a second ENI with its restricted privileges.
    sandboxes = [runtime.run_pod(f"web-{number}") for number in range(12)]
    # Wait for the warm third ENI too, the last that an m5.large can have: the state checked below no longer changes.
    wait_for(lambda: len(node.agent_rules()) == 2, "both further ENIs wired", 30)
    loose = node.instance.run(["sh", "-c", "cat /proc/sys/net/ipv4/conf/ens*/rp_filter"]).stdout.split()
    assert loose == ["2"] * len(node.enis()), "the confined agent sets the ENIs' reverse path"
    for sandbox in sandboxes:
        assert runtime.run_in_pod(sandbox, ["ping", "-q", "-n", "-c", "1", "-w", "3", there.address]).returncode == 0
    assert runtime.run_in_pod(sandboxes[0], ["ping", "-q", "-n", "-c", "1", "-w", "3", INTERNET]).returncode == 0
    assert there.ping(runtime.address(sandboxes[-1]))
    assert vpc.drops()["total"] == 0, vpc.drops()
    assert "Read-only file system" not in node.agent.log() and "not permitted" not in node.agent.log(), node.agent.log()

    held = {name: memory(pid) for pid, name in pod.processes().items()}
    print(f"start of the pod to conflist {seconds:.2f} s; memory in kB {held}")
    assert set(held) == {"/app/aws-vpc-cni", "aws-k8s-agent"}
    assert sum(each["RssAnon"] for each in held.values()) < 32 * 1024, "more than the manifest asks for"
    for sandbox in sandboxes:
        runtime.stop_pod(sandbox)
        runtime.remove_pod(sandbox)
    node.wait_clean(20)


def test_an_ipv6_cluster(vpc: Simulator, make_pod: Callable[..., AwsNode], make_node: Callable[..., Node]) -> None:
    """The result of `kubectl apply -k manifests/overlays/ipv6`: pods reach both families."""
    far = make_node("far", type="m5.large", subnet="b", environment=IPV6)
    init(far)
    far.agent.start()
    there = far.pod("there").add()
    pod = make_pod("six", "ipv6", environment=IPV6)
    pod.start().wait_ready()
    node, runtime = pod.node, pod.runtime
    wait_for(runtime.network_ready, "the runtime's network", 20)
    egress = json.loads(pod.conflist())["plugins"][1]
    assert (egress["type"], egress["enabled"], egress["nodeIP"]) == ("egress-cni", "true", node.instance.address)
    vpc.drops(reset=True)
    sandboxes = [runtime.run_pod(f"web-{number}") for number in range(3)]
    for sandbox in sandboxes:
        for address in (there.address, vpc.ready["internet6"], INTERNET):
            done = runtime.run_in_pod(sandbox, ["ping", "-q", "-n", "-c", "1", "-w", "3", address])
            assert done.returncode == 0, (address, done)
    assert there.ping(runtime.address(sandboxes[-1])) and vpc.drops()["total"] == 0, vpc.drops()
    for sandbox in sandboxes:
        runtime.stop_pod(sandbox)
        runtime.remove_pod(sandbox)
    wait_for(lambda: not node.ip("-6", "route", "show", "table", "20512") and "CNI-E4" not in node.instance.run(
        ["iptables-save", "-t", "nat"]).stdout, "nothing is left", 20)


def test_a_container_that_restarts_leaves_the_node_ready(vpc: Simulator, make_pod: Callable[..., AwsNode]) -> None:
    pod = make_pod("again").start().wait_ready()
    runtime = pod.runtime
    wait_for(runtime.network_ready, "the runtime's network", 20)
    web = runtime.run_pod("web")
    before = pod.node.instance.run(["stat", "-c", "%i %Y", CONFLIST, paths.PLUGIN]).stdout

    assert pod.stop() == 0, "the agent's own status"
    assert pod.conflist() and runtime.network_ready()
    pod.start_agent().wait_ready()
    # Neither file is written again if it is already correct.
    assert pod.node.instance.run(["stat", "-c", "%i %Y", CONFLIST, paths.PLUGIN]).stdout == before

    # The agent dies: its entrypoint exits with the agent's status, and the next one takes over.
    agent = next(pid for pid, name in pod.processes().items() if name == "aws-k8s-agent")
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: not pod.is_running(), "the container has ended")
    assert runtime.container_status(pod.container).exit_code == 128 + signal.SIGKILL
    assert runtime.network_ready()
    pod.start_agent().wait_ready()
    assert runtime.run_in_pod(web, ["ping", "-q", "-n", "-c", "1", "-w", "3", INTERNET]).returncode == 0
    late = runtime.run_pod("late")
    assert runtime.address(late) != runtime.address(web)
    for sandbox in (web, late):
        runtime.stop_pod(sandbox)
    pod.node.wait_clean(20)


@pytest.mark.parametrize("overlay", ["prefix-delegation"])
def test_overlays_run(make_pod: Callable[..., AwsNode], overlay: str) -> None:
    pod = make_pod("over", overlay).start().wait_ready()
    wait_for(lambda: any(prefixes for _, prefixes in pod.node.shape()), "a prefix", 20)


def test_a_mounted_template_is_taken(make_pod: Callable[..., AwsNode]) -> None:
    """Like a ConfigMap key mounted over /app/10-aws.conflist, with a read-only root; the image also reports its version."""
    pod = make_pod("mounted", environment={"ENABLE_BANDWIDTH_PLUGIN": "true"})
    pod.spec["volumes"].append({"name": "mine", "hostPath": {"path": "/run/template", "type": "FileOrCreate"}})
    pod.spec["containers"][0]["volumeMounts"].append({"name": "mine", "mountPath": "/app/10-aws.conflist", "readOnly": True})
    pod.node.instance.run(["sh", "-c", "cat >/run/template"], input=json.dumps({
        "cniVersion": "0.4.0", "name": "mine", "owner": {"team": "x"}, "plugins": [
            {"type": "aws-cni", "vethPrefix": "__VETHPREFIX__", "mtu": "__MTU__"}]}))
    pod.start().wait_ready()
    assert json.loads(pod.conflist()) == {
        "cniVersion": "0.4.0", "name": "mine", "owner": {"team": "x"}, "plugins": [
            {"type": "aws-cni", "vethPrefix": "eni", "mtu": "9001"}, {"type": "bandwidth", "capabilities": {"bandwidth": True}}]}
    wait_for(pod.runtime.network_ready, "the runtime's network", 20)
    pod.runtime.stop_pod(pod.runtime.run_pod("web"))
    agent = next(pid for pid, name in pod.processes().items() if name == "aws-k8s-agent")
    variables = Path(f"/proc/{agent}/environ").read_bytes().split(b"\0")
    assert any(each.startswith(b"VPC_CNI_VERSION=") and len(each) > len(b"VPC_CNI_VERSION=") for each in variables)


def test_the_existing_manifest_can_hold_this_image(vpc: Simulator, make_pod: Callable[..., AwsNode]) -> None:
    """Its init container is privileged, its agent is not, and neither has the mount of kernel settings: an operator who
    changes only the image gets working nodes, including ENIs attached later."""
    pod = make_pod("image-only")
    node, runtime = pod.node, pod.runtime
    for container, privileged in ((pod.spec["initContainers"][0], True), (pod.spec["containers"][0], False)):
        container["volumeMounts"] = [each for each in container["volumeMounts"] if each["name"] != "kernel-settings"]
        container["securityContext"] = {"privileged": privileged, "allowPrivilegeEscalation": True, "readOnlyRootFilesystem": False,
                                        "capabilities": {"drop": [], "add": ["NET_ADMIN", "NET_RAW"]}}
    node.instance.run(["sysctl", "-qw", "net.ipv4.conf.default.rp_filter=1"])
    pod.start().wait_ready()
    wait_for(runtime.network_ready, "the runtime's network", 20)
    sandboxes = [runtime.run_pod(f"web-{number}") for number in range(11)]
    # Wait for the warm third ENI too, the last that an m5.large can have: the state checked below no longer changes.
    wait_for(lambda: len(node.agent_rules()) == 2, "both further ENIs wired", 30)
    vpc.drops(reset=True)
    for sandbox in sandboxes:
        assert runtime.run_in_pod(sandbox, ["ping", "-q", "-n", "-c", "1", "-w", "3", INTERNET]).returncode == 0
    assert vpc.drops()["total"] == 0, vpc.drops()
    for sandbox in sandboxes:
        runtime.stop_pod(sandbox)


def nat(node: Node, kind: str) -> str:
    return node.instance.run([f"iptables-{kind}-save", "-t", "nat"], check=False).stdout


def test_capabilities_are_those_that_are_needed(make_pod: Callable[..., AwsNode]) -> None:
    """On a node whose kubelet uses iptables-legacy. The init container has no capabilities at all."""
    pod = make_pod("legacy")
    node = pod.node
    node.instance.run(["iptables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
    pod.start().wait_ready()
    assert "AWS-SNAT-CHAIN-0" in nat(node, "legacy") and "AWS-SNAT-CHAIN-0" not in nat(node, "nft")
    assert pod.stop() == 0

    # Without NET_RAW the agent cannot see the rules of the iptables that kubelet uses.
    granted = pod.spec["containers"][0]["securityContext"]["capabilities"]["add"]
    assert granted == ["NET_ADMIN", "NET_RAW"]
    node.instance.run(["iptables-legacy", "-t", "nat", "-F"])
    granted.remove("NET_RAW")
    pod.start_agent()
    wait_for(lambda: pod.probe("startup") == 0 or not pod.is_running(), "the agent without NET_RAW", 30)
    assert "AWS, SNAT" not in nat(node, "legacy")
    pod.stop()

    # Without NET_ADMIN the agent can set up nothing.
    granted.clear()
    assert "not permitted" not in node.agent.log()
    node.instance.run(["ip", "rule", "del", "priority", "1024"])
    pod.start_agent()
    wait_for(lambda: "not permitted" in node.agent.log(), "the agent without NET_ADMIN", 30)
    assert not [rule for rule in node.rules() if rule["priority"] == 1024]


def test_every_rule_of_the_role_is_used(vpc: Simulator, api: KubeAPI, make_pod: Callable[..., AwsNode]) -> None:
    """An agent with every feature in use requests exactly what the role names from the API server, and nothing else."""
    overlay = "annotate-pod-ips"
    pod = make_pod("asking", overlay, environment={
        **api.environment("asking"), "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true", "ENABLE_POD_ENI": "true",
        "WARM_IP_TARGET": "1", "MINIMUM_IP_TARGET": "1"})
    primary = next(eni for eni in pod.node.enis() if eni["index"] == 0)
    known = vpc.ec2().describe_network_interfaces(NetworkInterfaceIds=[primary["eni"]])["NetworkInterfaces"][0]
    api.add(kube_node("asking"), agent_pod("asking"), cni_node("asking"), kube_pod("web", "asking"),
            eni_config("default", known["SubnetId"], [group["GroupId"] for group in known["Groups"]]))
    api.install_account(pod.node.instance)
    pod.start().wait_ready()
    wait_for(pod.runtime.network_ready, "the runtime's network", 20)
    vpc.deny("AssignPrivateIpAddresses")
    try:
        web = pod.runtime.run_pod("web")
        wait_for(lambda: api.annotation("web") == pod.runtime.address(web), "the annotation", 20)
        wait_for(api.events, "the event of the missing permission", 30)
        wait_for(lambda: api.requests("patch", "cninodes"), "the feature", 30)
    finally:
        vpc.allow("AssignPrivateIpAddresses")
    asked = {(each["plural"], each["verb"]) for each in api.requests() if each["status"] < 400}
    granted = {(resource, verb) for rule in find(render(f"overlays/{overlay}"), "ClusterRole", "aws-node")["rules"]
               for resource in rule["resources"] for verb in rule["verbs"]}
    assert asked == granted
    pod.runtime.stop_pod(web)


def test_a_slow_api_server_ends_nobody(api: KubeAPI, make_pod: Callable[..., AwsNode]) -> None:
    """Every answer is late or never comes: all three probes succeed, and pods start."""
    api.add(kube_node("slow"), agent_pod("slow"))
    pod = make_pod("slow", environment=api.environment("slow"))
    api.install_account(pod.node.instance)
    api.down()
    pod.start().wait_ready(30)
    for kind in ("startup", "readiness", "liveness"):
        assert pod.probe(kind) == 0
    wait_for(pod.runtime.network_ready, "the runtime's network", 20)
    web = pod.runtime.run_pod("web")
    pod.runtime.stop_pod(web)
