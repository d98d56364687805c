"""`vpc-cni status`, help, version and completions of the built binary."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.waiting import wait_for
from simulator.client import Simulator


def run(node: Node, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return node.instance.run([str(paths.BINARY), *words], check=False, **options)


def status(node: Node) -> dict[str, Any]:
    def look() -> Any:
        done = run(node, "status", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None
    return wait_for(look, "status")


@pytest.mark.parametrize("address", ["", "unix:/run/look.sock", "127.0.0.1:7777"])
def test_the_node_at_a_glance(vpc: Simulator, make_node: Callable[..., Node], address: str) -> None:
    """Shows the data of EC2 and the checkpoint; status finds the agent at the address that the agent's own environment sets."""
    environment = {"INTROSPECTION_BIND_ADDRESS": address} if address else {}
    node = make_node("glance", type="m5.large", subnet="a", environment={"VPC_CNI_VERSION": "v9.9", **environment})
    vpc.counts(reset=True)
    node.agent.start()
    pods = node.add_pods(12)
    node.delete_pods(pods[:2])
    node.wait_quiet()
    seen = status(node)
    calls = {action: row["calls"] for action, row in vpc.counts()["actions"].items() if ":" not in action}

    assert seen["agent"]["version"] == "v9.9" and seen["agent"]["pid"] == node.agent.pid
    assert seen["agent"]["instance"] == node.instance.instance_id and seen["agent"]["instanceType"] == "m5.large"
    pool = seen["pool"]
    assert (pool["assigned"], pool["cooling"], pool["waiting"], pool["eniLimit"]) == (10, 2, 0, 3)
    assert pool["total"] == sum(count for count, _ in node.shape()) and pool["blockedCause"] is None
    assert pool["free"] == pool["total"] - 12
    assert seen["targets"]["warmENI"] == 1 and seen["targets"]["shortage"] == 0
    enis = {eni["id"]: eni for eni in seen["enis"]}
    assert set(enis) == {eni["eni"] for eni in node.enis()}
    for eni in node.enis():
        row = enis[eni["eni"]]
        assert row["mac"] == eni["mac"] and row["subnet"].startswith("subnet-") and row["isManaged"] and row["isOpen"]
        assert row["table"] == (254 if eni["index"] == 0 else eni["index"] + 1)
        assert row["total"] == len(eni["addresses"]) - 1
    assert {pod["address"]: f"{pod['namespace']}/{pod['name']}" for pod in seen["pods"]} == {
        pod.address: f"default/{pod.name}" for pod in node.pods}
    assert all(pod["eni"] in enis and 0 <= pod["ageSeconds"] < 600 for pod in seen["pods"])
    assert {call["action"]: call["count"] for call in seen["ec2"]["calls"]} == calls
    assert all(call["lastError"] is None for call in seen["ec2"]["calls"]) and seen["ec2"]["held"] == []
    assert 0 <= seen["ec2"]["reconciledSeconds"] < 120
    assert seen["kernel"]["scheme"] == "constant" and seen["kernel"]["iptables"]
    assert seen["waiters"] == [] and seen["actions"] == []

    text = run(node, "status", "--pods=3").stdout
    assert f"node       {node.instance.instance_id} m5.large" in text
    assert "addresses  10 used" in text and "… and 7 pods (--pods=COUNT shows them)" in text
    assert all(eni in text for eni in enis)


def test_what_blocks_growth_and_who_waits(vpc: Simulator, make_node: Callable[..., Node]) -> None:
    node = make_node("blocked", type="m5.large", subnet="a", environment={"WARM_ENI_TARGET": "0"})
    for action in ("AssignPrivateIpAddresses", "CreateNetworkInterface"):
        vpc.fault(action, http=503, code="RequestLimitExceeded", times=10_000)
    node.agent.start()
    pod = node.pod("waiting")
    plugin = node.instance.popen([paths.PLUGIN], env=pod.environment("ADD"), stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert plugin.stdin is not None
        plugin.stdin.write(json.dumps(pod.configuration()).encode())
        plugin.stdin.close()
        seen = wait_for(lambda: (s := status(node))["waiters"] and any(c["throttled"] for c in s["ec2"]["calls"]) and s or None,
                        "the pod waits")
        assert seen["waiters"][0]["name"] == "waiting" and seen["waiters"][0]["leftSeconds"] <= 20
        text = run(node, "status").stdout
        assert "default/waiting" in text and "RequestLimitExceeded" in text
    finally:
        plugin.kill()
        plugin.wait()
        vpc.clear_faults()


def test_without_an_agent_it_says_what_to_do(make_node: Callable[..., Node]) -> None:
    node = make_node("none", type="m5.large", subnet="a")
    done = run(node, "status")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("vpc-cni status: 127.0.0.1:61679: connect: connection refused; no agent listens there")
    off = run(node, "status", env={"DISABLE_INTROSPECTION": "true"})
    assert off.returncode == 1 and "DISABLE_INTROSPECTION" in off.stderr
    for bad, words in (("--address=nowhere", "allowed is ADDRESS:PORT or unix:/path"), ("--interval=0", "allowed is 1 to 3600"),
                       ("more", "unexpected argument \"more\"")):
        refused = run(node, "status", bad)
        assert refused.returncode == 64 and words in refused.stderr, refused.stderr


def test_watch_shows_again(make_node: Callable[..., Node]) -> None:
    node = make_node("watch", type="m5.large", subnet="a")
    node.agent.start()
    watching = node.instance.popen([str(paths.BINARY), "status", "--watch", "--interval=1"], stdout=subprocess.PIPE)
    try:
        assert watching.stdout is not None
        heads = 0
        while heads < 2:
            heads += watching.stdout.readline().startswith(b"node ")
    finally:
        watching.kill()
        watching.wait()


def test_help_version_and_completion() -> None:
    binary = str(paths.BINARY)
    say = lambda *words: subprocess.run([binary, *words], capture_output=True, text=True, check=False)  # noqa: E731
    overview = say("help").stdout
    for mode in ("plugin", "agent", "health", "init", "node", "status", "doctor", "help", "version", "completion"):
        assert f"\n  {mode} " in overview
        told = say("help", mode)
        assert told.returncode == 0 and told.stdout.startswith(f"usage: vpc-cni {mode}"), told
    assert "grpc-health-probe" in overview
    assert say("--help").stdout == overview and say("help", "aws-cni").stdout == say("help", "plugin").stdout
    version = json.loads(say("version", "--json").stdout)
    assert set(version) == {"version", "commit", "swift", "architecture", "build"}
    assert say("--version").stdout.startswith(f"vpc-cni {version['version']}\n")
    for wrong in (["nothing"], ["help", "nothing"], ["version", "--nothing"], ["completion"], ["completion", "tcsh"], []):
        done = say(*wrong)
        assert done.returncode == 64 and done.stderr and not done.stdout, (wrong, done)
    program = "source <($0 completion bash); COMP_WORDS=(vpc-cni doctor --js); COMP_CWORD=2; compopt() { :; }; _vpc_cni; echo ${COMPREPLY[0]}"
    assert subprocess.run(["bash", "-c", program, binary], capture_output=True, text=True, check=True).stdout == "--json\n"
    for shell in ("zsh", "fish"):
        assert "doctor" in say("completion", shell).stdout
