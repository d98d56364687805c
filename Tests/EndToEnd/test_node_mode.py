"""The entrypoint and the init container's program: their order of steps, waiting, exit, and handling of bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness import paths
from harness.entrypoint import CONFIGURATIONS, CONFLIST, Entrypoint
from harness.node import Node
from harness.waiting import wait_for
from simulator.client import Simulator
from simulator.fabric import INTERNET_ADDRESS as INTERNET
from simulator.patience import patient

TEMPLATE = f"{CONFIGURATIONS}/template"


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node("n1", type="m5.large", subnet="a")


@pytest.fixture
def make_entrypoint(node: Node) -> Iterator[Callable[..., Entrypoint]]:
    made: list[Entrypoint] = []

    def make(environment: dict[str, str] | None = None) -> Entrypoint:
        made.append(Entrypoint(node, environment))
        return made[-1]

    yield make
    for each in made:
        each.close()


def write(node: Node, path: str, text: str) -> None:
    node.instance.run(["sh", "-c", f"cat >{path}"], input=text)


def files(node: Node) -> set[str]:
    """The files in the two host folders, except a runtime's own lock."""
    found = node.instance.run(["find", "/opt/cni/bin", CONFIGURATIONS, "-type", "f", "-not", "-name", "cni.lock"])
    return set(found.stdout.split())


@contextmanager
def held_lock(node: Node) -> Iterator[None]:
    """Another iptables process holds the lock and does not exit."""
    holder = node.instance.popen(["flock", "/run/xtables.lock", "sh", "-c", "echo held; cat"], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdin and holder.stdout.readline() == b"held\n"
    try:
        yield
    finally:
        holder.stdin.close()
        holder.wait(timeout=patient(10))


def documented() -> list[str]:
    """The commands that the pages for operators give to run on a node's host."""
    pages = [paths.ROOT / "README.md", *(paths.ROOT / "docs" / f"{name}.md" for name in ("install", "troubleshooting"))]
    found: set[str] = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        found |= set(re.findall(r"`((?:sudo )(?:bash )?/opt/cni/bin/[^`]+)`", text))
    return sorted(found)


# MARK: commands that people run on the host


def test_the_documented_commands_on_an_installed_node(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    """A host has the binary only as `aws-cni`: people can use it too, with and without an agent."""
    entrypoint = make_entrypoint().start().wait_conflist()
    commands = documented()
    said = " ".join(commands)
    assert all(word in said for word in ("aws-cni doctor", "aws-cni status", "aws-cni-support.sh", "bash /opt")), commands

    def run(command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return node.instance.run(["sh", "-c", command], check=False, env=env)

    for command in commands:
        done = run(command.removeprefix("sudo "))
        assert done.returncode in ((0, 1, 2) if "doctor" in command else (0,)), (command, done)
        assert "CNI_COMMAND" not in done.stdout + done.stderr, (command, done)
        if "support" in command:
            assert done.stdout.startswith("/var/log/eks_") and done.stdout.endswith(".tar.gz\n"), (command, done)
            run(f"rm {done.stdout.strip()}")  # the next bundle of this minute has the same name
    assert "usage: vpc-cni MODE" in run(f"{paths.PLUGIN} help").stdout
    assert json.loads(run(f"{paths.PLUGIN} version --json").stdout)["version"]

    # A call by a runtime stays a CNI call, whatever arguments follow the program's name.
    answer = json.loads(run(f"{paths.PLUGIN} doctor </dev/null", CNI_COMMAND="VERSION").stdout)
    assert "supportedVersions" in answer, answer

    assert entrypoint.terminate() == 0
    checks = {each["id"]: each for each in json.loads(run(f"{paths.PLUGIN} doctor --json").stdout)["checks"]}
    assert checks["agent-serves"]["verdict"] == "broken", "the pod is down, and that is when people ask"
    down = run(f"{paths.PLUGIN} status")
    assert down.returncode == 1 and "no agent listens there" in down.stderr
    assert run(f"bash {paths.SUPPORT} --quiet").returncode == 0


@pytest.mark.parametrize("before", ["link", "script"])
def test_an_upgrade_replaces_the_support_script(node: Node, make_entrypoint: Callable[..., Entrypoint], before: str) -> None:
    """In an earlier release the script was a second name of the binary; in amazon-vpc-cni-k8s it is a script of its own."""
    put = {"link": f"ln -f {paths.PLUGIN} {paths.SUPPORT}", "script": f"echo 'echo theirs' >{paths.SUPPORT}"}[before]
    node.instance.run(["sh", "-c", put])
    make_entrypoint().start().wait_conflist()
    script = node.instance.run(["cat", paths.SUPPORT]).stdout
    assert script.startswith("#!/bin/sh\nexec ") and script.count("\n") == 2
    assert node.instance.run(["cmp", paths.PLUGIN, str(paths.BINARY)], check=False).returncode == 0
    # After a rollback, amazon-vpc-cni-k8s writes its script over ours, and that does not change the plugin.
    node.instance.run(["sh", "-c", f"echo 'echo theirs' >{paths.SUPPORT}"])
    assert node.instance.run(["cmp", paths.PLUGIN, str(paths.BINARY)], check=False).returncode == 0


# MARK: the entrypoint


def test_order_of_a_start(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    """The log has the words that people search for; the conflist is the last step, and pods start after it."""
    node.instance.run(["rm", "-f", paths.PLUGIN])
    entrypoint = make_entrypoint().start().wait_conflist()
    wait_for(lambda: "Foregrounding IPAM daemon ..." in entrypoint.messages(), "the last word of the start")
    said = [word for word in entrypoint.messages() if word != "CNI plugin installed" and word != "Retrying waiting for IPAM-D"]
    assert said == [
        "Validating env variables ...", "Install CNI binaries..", "Starting IPAM daemon in the background ... ",
        "Checking for IPAM connectivity ... ", "Copying config file ... ",
        "Successfully copied CNI plugin binary and config file.", "Foregrounding IPAM daemon ..."]
    assert [each["type"] for each in json.loads(entrypoint.conflist())["plugins"]] == ["aws-cni", "egress-cni", "portmap"]
    assert files(node) == {CONFLIST, paths.PLUGIN, paths.SUPPORT}, "nothing temporary is left"
    pod = node.pod("web").add()
    assert pod.ping(INTERNET)
    pod.delete()
    assert entrypoint.terminate() == 0
    assert entrypoint.conflist(), "what a restart finds"


def test_no_conflist_before_the_agent_serves(vpc: Simulator, node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    """IMDS does not answer: the entrypoint waits without a limit, says so, and goes on once IMDS answers."""
    vpc.imds(False)
    entrypoint = make_entrypoint().start()
    wait_for(lambda: "Retrying waiting for IPAM-D" in entrypoint.messages(), "words of waiting", 15)
    assert entrypoint.conflist() == ""
    vpc.imds(True)
    entrypoint.wait_conflist()


def test_a_held_xtables_lock_ends_nobody(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    """At the start the lock causes a delay; later the probe keeps reporting SERVING while rules wait."""
    # The iptables that kubelet uses here is the one that takes the lock.
    node.instance.run(["iptables-legacy", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT"])
    entrypoint = make_entrypoint()
    with held_lock(node):
        entrypoint.start()
        wait_for(lambda: "Retrying waiting for IPAM-D" in entrypoint.messages(), "words of waiting", 20)
        assert entrypoint.conflist() == ""
    entrypoint.wait_conflist(60)
    with held_lock(node):
        assert node.agent.healthy()
        pod = node.pod("meanwhile").add()
        assert node.agent.healthy()
    assert pod.ping(INTERNET)


def test_termination_is_passed_on(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    entrypoint = make_entrypoint().start().wait_conflist()
    agent = entrypoint.agent_pid()
    assert agent
    assert entrypoint.terminate() == 0
    assert not os.path.exists(f"/proc/{agent}")
    assert '"msg":"stopped"' in node.agent.log(), "the agent stopped in order"


def test_termination_before_the_agent_serves(vpc: Simulator, node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    vpc.imds(False)
    entrypoint = make_entrypoint().start()
    wait_for(lambda: "Retrying waiting for IPAM-D" in entrypoint.messages(), "words of waiting", 15)
    assert entrypoint.terminate() == 0
    vpc.imds(True)
    assert entrypoint.conflist() == ""


def test_a_dead_agent_ends_the_container_with_its_status(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    entrypoint = make_entrypoint().start().wait_conflist()
    agent = entrypoint.agent_pid()
    assert agent
    os.kill(agent, signal.SIGKILL)
    assert entrypoint.wait() == 128 + signal.SIGKILL
    assert entrypoint.conflist()
    # An agent that cannot run exits with 1: here two agents run on one node.
    first = make_entrypoint().start().wait_conflist()
    second = subprocess.run(node.instance.command([str(paths.BINARY), "node"]), check=False, capture_output=True, timeout=20,
                            env={**os.environ, **node.instance.environment, **first.environment})
    assert second.returncode == 1, second.stdout
    assert first.process is not None and first.process.poll() is None


def test_an_agent_that_does_not_end_is_killed(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    entrypoint = make_entrypoint().start().wait_conflist()
    agent = entrypoint.agent_pid()
    assert agent
    os.kill(agent, signal.SIGSTOP)
    assert entrypoint.terminate(deadline=20) == 128 + signal.SIGKILL
    assert "agent did not stop in time; killing it" in entrypoint.messages()


def test_children_that_others_left_are_waited_for(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    """A probe that kubelet kills at its time limit leaves its own children to PID 1."""
    entrypoint = make_entrypoint().start().wait_conflist()
    for _ in range(5):
        subprocess.run(["nsenter", f"--pid=/proc/{entrypoint.pid}/ns/pid", "sh", "-c", "(:) & (:) & exit 0"], check=True)
    agent = entrypoint.agent_pid()
    wait_for(lambda: entrypoint.children() == [agent], "no child but the agent", 10)
    assert entrypoint.terminate() == 0


def test_a_container_that_comes_again_finds_everything(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    first = make_entrypoint().start().wait_conflist()
    pod = node.pod("lives").add()
    assert first.terminate() == 0
    before = node.instance.run(["stat", "-c", "%i %Y", CONFLIST, paths.PLUGIN]).stdout
    again = make_entrypoint({"ENABLE_BANDWIDTH_PLUGIN": "true"}).start().wait_conflist()
    after = node.instance.run(["stat", "-c", "%i %Y", CONFLIST, paths.PLUGIN]).stdout
    assert before.splitlines()[1] == after.splitlines()[1] and before.splitlines()[0] != after.splitlines()[0]
    assert json.loads(again.conflist())["plugins"][-1]["type"] == "bandwidth"
    pod.check()
    assert pod.ping(INTERNET)


# MARK: bad input


@pytest.mark.parametrize(("name", "value"), [
    ("AWS_VPC_ENI_MTU", "100"), ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "stdout"), ("HOST_CNI_BIN_PATH", "bin"),
    ("ENABLE_PREFIX_DELEGATION", "true"),
])
def test_a_refused_setting_touches_nothing(
    node: Node, make_entrypoint: Callable[..., Entrypoint], name: str, value: str,
) -> None:
    node.instance.run(["rm", "-f", paths.PLUGIN])
    entrypoint = make_entrypoint({"WARM_PREFIX_TARGET": "0", name: value}).start()
    assert entrypoint.wait() == 1
    last = entrypoint.lines()[-1]
    assert last["level"] == "fatal" and last["msg"] == "cannot set up the node"
    assert (name if name != "ENABLE_PREFIX_DELEGATION" else "WARM_PREFIX_TARGET") in last["error"]
    assert files(node) == set()


def test_a_bad_template_keeps_what_worked(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    write(node, TEMPLATE, '{"cniVersion": "1.0.0", "name": "mine", "plugins": [{"type": ')
    first = make_entrypoint().start()
    assert first.wait() == 1, "there is nothing to keep"
    assert TEMPLATE in first.lines()[-1]["error"] and "invalid JSON at byte" in first.lines()[-1]["error"]
    assert first.conflist() == ""

    write(node, TEMPLATE, '{"cniVersion": "1.0.0", "name": "mine", "x": 1, "plugins": [{"type": "aws-cni", "mtu": "__MTU__"}]}')
    second = make_entrypoint().start().wait_conflist()
    good = second.conflist()
    assert json.loads(good) == {"cniVersion": "1.0.0", "name": "mine", "x": 1, "plugins": [{"type": "aws-cni", "mtu": "9001"}]}
    assert second.terminate() == 0

    write(node, TEMPLATE, '{"cniVersion": "1.0.0", "name": "mine", "plugins": [{"kind": "aws-cni"}]}')
    third = make_entrypoint().start().wait_conflist()
    assert third.conflist() == good
    told = next(line for line in third.lines() if line["level"] == "error")
    assert '"plugins"[0].type is missing' in told["error"] and told["kept"] == CONFLIST


def test_a_folder_that_cannot_be_written_is_named(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    entrypoint = make_entrypoint({"HOST_CNI_BIN_PATH": "/nowhere"}).start()
    assert entrypoint.wait() == 1
    assert "/nowhere/aws-cni" in entrypoint.lines()[-1]["error"]
    # The conflist's folder is needed last: the agent runs, and the entrypoint keeps trying.
    entrypoint = make_entrypoint({"HOST_CNI_CONFDIR_PATH": "/run/late"}).start()
    wait_for(lambda: "cannot write the conflist; will retry" in entrypoint.messages(), "the failure is told", 20)
    node.instance.run(["mkdir", "/run/late"])
    entrypoint.wait_conflist()
    assert node.instance.run(["ls", "/run/late"]).stdout.split() == ["10-aws.conflist"]


def test_a_configuration_that_comes_first_is_told(node: Node, make_entrypoint: Callable[..., Entrypoint]) -> None:
    write(node, f"{CONFIGURATIONS}/05-other.conflist", "{}")
    entrypoint = make_entrypoint().start().wait_conflist()
    warning = next(line for line in entrypoint.lines() if line["level"] == "warn")
    assert warning["files"] == [f"{CONFIGURATIONS}/05-other.conflist"]


# MARK: the init container's program


def init(node: Node, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    node.instance.run(["sh", "-c", "mkdir -p /run/image && printf loop >/run/image/loopback && printf map >/run/image/portmap"])
    variables = {"HOST_CNI_BIN_PATH": "/opt/cni/bin", "VPC_CNI_CORE_PLUGINS_PATH": "/run/image", **(environment or {})}
    return node.instance.run([str(paths.BINARY), "init"], env=variables, check=False, timeout=90)


def setting(node: Node, name: str) -> str:
    return node.instance.run(["sysctl", "-n", name]).stdout.strip()


def test_init_sets_the_host_up(node: Node) -> None:
    primary = node.ip("route", "show", "default")[0]["dev"]
    node.instance.run(["sysctl", "-qw", f"net.ipv4.conf.{primary}.rp_filter=1", "net.ipv4.conf.default.rp_filter=1",
                       "net.ipv4.tcp_early_demux=0"], check=False)
    write(node, "/opt/cni/bin/portmap", "the host's own")
    done = init(node)
    assert done.returncode == 0, done.stdout + done.stderr
    assert setting(node, f"net.ipv4.conf.{primary}.rp_filter") == "2" == setting(node, "net.ipv4.conf.default.rp_filter")
    assert node.instance.run(["cat", "/opt/cni/bin/portmap"]).stdout == "the host's own"
    assert node.instance.run(["cat", "/opt/cni/bin/loopback"]).stdout == "loop"
    assert node.instance.run(["cmp", paths.PLUGIN, str(paths.BINARY)], check=False).returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    plugins = next(line for line in lines if line["msg"] == "standard CNI plugins installed")
    assert plugins["installed"] == ["loopback"] and plugins["kept"] == ["portmap"]
    again = init(node)
    assert again.returncode == 0
    settings = next(json.loads(line) for line in again.stdout.splitlines() if "sysctls set" in line)
    assert settings["changed"] == [], "a second run changes nothing"


def test_init_fails_with_the_cause(vpc: Simulator, node: Node) -> None:
    done = init(node, {"VPC_CNI_CORE_PLUGINS_PATH": "/nowhere"})
    assert done.returncode == 1 and "read /nowhere: " in done.stdout
    done = init(node, {"AWS_VPC_ENI_MTU": "1"})
    assert done.returncode == 1 and "AWS_VPC_ENI_MTU is" in done.stdout
    # The program waits a little while for an IMDS that does not answer.
    vpc.imds(False)
    try:
        waiting = node.instance.popen([str(paths.BINARY), "init"], stdout=subprocess.PIPE, env={
            "HOST_CNI_BIN_PATH": "/opt/cni/bin", "VPC_CNI_CORE_PLUGINS_PATH": "/run/image"})
        assert waiting.stdout
        for line in waiting.stdout:
            if b"cannot list network interfaces from IMDS; will retry" in line:
                break
    finally:
        vpc.imds(True)
    rest = waiting.communicate(timeout=patient(60))[0]
    assert waiting.returncode == 0 and b"CNI init container done" in rest
