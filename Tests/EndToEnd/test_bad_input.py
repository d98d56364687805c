"""Input that must not cause a crash, a hang or leftovers: bad CNI input and hostile peers on the agent's socket."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from harness import paths
from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from simulator.patience import patient

VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


@pytest.fixture(scope="module")
def node(vpc: Any) -> Any:
    node = Node(vpc, "bad", type="m5.large", subnet="a")
    node.agent.start()
    yield node
    node.close()


def run_plugin(node: Node, environment: dict[str, str], stdin: bytes) -> tuple[int, dict[str, Any]]:
    done = node.instance.run([paths.PLUGIN], check=False, env=environment, input=stdin, text=False)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def good(node: Node) -> tuple[dict[str, str], dict[str, Any]]:
    pod = Pod(node.instance, "bad-input")
    return pod.environment("ADD"), pod.configuration()


ENVIRONMENT_CASES = [
    ({"CNI_COMMAND": ""}, 4, "CNI_COMMAND"),
    ({"CNI_COMMAND": "JUMP"}, 4, "CNI_COMMAND"),
    ({"CNI_CONTAINERID": ""}, 4, "CNI_CONTAINERID"),
    ({"CNI_CONTAINERID": "../../etc"}, 4, "CNI_CONTAINERID"),
    ({"CNI_NETNS": ""}, 4, "CNI_NETNS"),
    ({"CNI_IFNAME": ""}, 4, "CNI_IFNAME"),
    ({"CNI_IFNAME": "a/b"}, 4, "CNI_IFNAME"),
    ({"CNI_IFNAME": "much-too-long-a-name"}, 4, "CNI_IFNAME"),
    ({"CNI_IFNAME": ".."}, 4, "CNI_IFNAME"),
    ({"CNI_NETNS": "/etc/hostname"}, 4, "/etc/hostname"),
    ({"CNI_NETNS": "/run/netns/none"}, 4, "/run/netns/none"),
    ({"CNI_NETNS": "/proc/self/ns/net"}, 4, "CNI_NETNS"),
    ({"CNI_ARGS": "K8S_POD_NAME"}, 4, "CNI_ARGS"),
]


@pytest.mark.parametrize("change, code, named", ENVIRONMENT_CASES)
def test_environment(node: Node, change: dict[str, str], code: int, named: str) -> None:
    environment, configuration = good(node)
    status, error = run_plugin(node, {**environment, **change}, json.dumps(configuration).encode())
    assert status == 1 and error["code"] == code, error
    assert named in error["msg"] + error.get("details", ""), error
    assert node.leftovers() == {"veths": [], "routes": [], "allocations": []}


STDIN_CASES = [
    (b"", 6), (b"{", 6), (b"[]", 6), (b"\xff\xfe", 6), (b"{" * 5000, 6), (b'{"a":' * 5000, 6),
    (b'"' + b"x" * 4_000_000 + b'"', 6),
    (b'{"cniVersion":"0.4.0"}', 7), (b'{"cniVersion":"9.9.9","name":"aws-cni"}', 1),
    (b'{"cniVersion":4,"name":"aws-cni"}', 6), (b'{"cniVersion":"0.4.0","name":7}', 6),
    (b'{"cniVersion":"0.4.0","name":"a/b","type":"aws-cni"}', 7),
]


@pytest.mark.parametrize("stdin, code", STDIN_CASES)
def test_configuration(node: Node, stdin: bytes, code: int) -> None:
    status, error = run_plugin(node, good(node)[0], stdin)
    assert status == 1 and error["code"] == code, error
    assert error["msg"]


def test_version_needs_no_environment(node: Node) -> None:
    status, said = run_plugin(node, {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.0.0"}')
    assert status == 0 and said["supportedVersions"] == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_of_the_result(node: Node, version: str) -> None:
    pod = node.pod(f"v{version.replace('.', '-')}", version=version).add()
    assert pod.result is not None and pod.result["cniVersion"] == version
    assert ("ip4" in pod.result) == (version < "0.3")
    pod.delete()
    node.delete_pods([pod])
    node.wait_clean()


@pytest.mark.parametrize("version, command", [("0.3.1", "CHECK"), ("1.0.0", "STATUS"), ("0.4.0", "GC")])
def test_commands_that_a_version_lacks(node: Node, version: str, command: str) -> None:
    pod = Pod(node.instance, "old", version=version)
    status, error = run_plugin(node, pod.environment(command), json.dumps(pod.configuration(prevResult={})).encode())
    assert status == 1 and error["code"] == 1, error


def test_interface_name_taken(node: Node) -> None:
    pod = node.pod("taken")
    pod.exec(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"])
    done = node.instance.run([paths.PLUGIN], check=False, env=pod.environment("ADD"),
                             input=json.dumps(pod.configuration()))
    error = json.loads(done.stdout)
    assert done.returncode == 1 and "eth0" in error["msg"] and "exist" in error["msg"], error
    pod.delete()
    node.delete_pods([pod])
    node.wait_clean()


# MARK: the agent's socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def connect(node: Node) -> socket.socket:
    """The socket is in the instance's mount namespace; it is reached through the agent's root directory in /proc."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(f"/proc/{node.agent.pid}/root{paths.AGENT_SOCKET.replace('/var/run', '/run')}")
    return client


def still_serves(node: Node) -> None:
    pod = node.pod(f"after-{random.randrange(1 << 40):x}").add()
    pod.delete()
    node.delete_pods([pod])


GARBAGE = {
    "nothing": b"", "text": b"GET / HTTP/1.1\r\n\r\n", "zeros": bytes(100_000), "half a preface": PREFACE[:10],
    "half a frame": PREFACE + b"\x00\x00\x10\x04\x00", "a huge frame": PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "settings then noise": PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + bytes(range(256)) * 64,
    "headers of stream 0": PREFACE + b"\x00\x00\x04\x01\x04\x00\x00\x00\x00abcd",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_on_the_socket(node: Node, name: str) -> None:
    client = connect(node)
    try:
        client.sendall(GARBAGE[name])
    except OSError:
        pass  # the agent may have closed already
    still_serves(node)
    client.close()


def test_random_bytes_on_the_socket(node: Node) -> None:
    dice = random.Random(20512)
    for _ in range(200):
        client = connect(node)
        try:
            client.sendall((PREFACE if dice.random() < 0.7 else b"") + dice.randbytes(dice.randrange(400)))
        except OSError:
            pass
        client.close()
    still_serves(node)


def test_a_thousand_idle_connections(node: Node) -> None:
    clients = []
    try:
        for _ in range(1000):
            clients.append(connect(node))
    finally:
        still_serves(node)
        for client in clients:
            client.close()
    assert node.agent.memory()["RssAnon"] < 40_000
    assert os.path.exists(f"/proc/{node.agent.pid}")


NO_WINDOW = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00" + b"\x00\x04" + bytes(4)  # SETTINGS: the initial window is 0


def header(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def health_request() -> bytes:
    """HEADERS and DATA of a whole health check on stream 1."""
    fields = {b":method": b"POST", b":scheme": b"http", b":path": b"/grpc.health.v1.Health/Check", b":authority": b"localhost",
              b"content-type": b"application/grpc", b"te": b"trailers"}
    block = b"".join(header(*each) for each in fields.items())
    return (len(block).to_bytes(3, "big") + b"\x01\x04\x00\x00\x00\x01" + block
            + b"\x00\x00\x05\x00\x01\x00\x00\x00\x01" + bytes(5))


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_peers_that_take_no_answer_block_nobody(node: Node) -> None:
    """Each peer has an answer waiting that it leaves no room for. Even at the limit of connections, such peers neither
    keep a pod from starting nor delay the answer to a probe, and the agent closes them all."""
    clients = []
    try:
        for _ in range(512):
            clients.append(connect(node))
            clients[-1].sendall(PREFACE + NO_WINDOW + health_request())
        still_serves(node)
        assert node.agent.healthy()
        wait_for(lambda: all(map(is_closed, clients)), "every one of them closed", 20)
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("limit", [128, 160])
def test_few_descriptors(make_node: Callable[..., Node], limit: int) -> None:
    """The agent reserves the descriptors that it needs itself: clients that take all the descriptors they can get neither
    end the agent nor delay a pod, on the agent's socket and on both ports."""
    node = make_node(f"few-{limit}", type="m5.large", subnet="a")
    node.agent.wrapper = ["prlimit", f"--nofile={limit}:{limit}"]
    node.agent.start()
    process = node.agent.process
    clients = []
    try:
        for round in range(3):
            for _ in range(limit):
                clients.append(connect(node))
                if round:
                    clients[-1].sendall(PREFACE + NO_WINDOW + health_request())
            for port in (61678, 61679):
                flood = f"exec 3<>/dev/tcp/127.0.0.1/{port}; sleep 1000"
                clients += [Process(node, ["bash", "-c", flood]) for _ in range(20)]
            # Growth works too: an ENI is attached, and those EC2 calls need descriptors of the agent's own.
            for pod in node.add_pods(4, prefix=f"few-{round}"):
                pod.check()
            assert node.agent.healthy()
            assert node.instance.run(["curl", "-sf", "-m5", "http://127.0.0.1:61678/metrics"]).stdout
            assert len(os.listdir(f"/proc/{node.agent.pid}/fd")) <= limit
    finally:
        for client in clients:
            client.close()
    assert process is not None and process.poll() is None
    node.delete_pods()
    node.wait_clean()


class Process:
    """A program on the node; `close` ends it."""

    def __init__(self, node: Node, words: list[str]) -> None:
        self.process = node.instance.popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def test_too_few_descriptors_are_refused(make_node: Callable[..., Node]) -> None:
    node = make_node("too-few", type="m5.large", subnet="a")
    for limit in (24, 64, 127):
        node.agent.wrapper = ["prlimit", f"--nofile={limit}:{limit}"]
        node.agent.start(wait=False)
        assert node.agent.process is not None and node.agent.process.wait(timeout=patient(20)) == 1
        said = node.agent.process.stderr.read().decode()
        assert f"may open {limit} files, needs at least 128" in said, said
        node.agent.kill()


@pytest.mark.parametrize("log", ["stdout", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/tmp/a-link", "/dev/stderr"])
def test_a_log_on_standard_output_is_no_part_of_the_result(node: Node, log: str) -> None:
    """Standard output is refused as a log file by its usual names; through a link it is a file that cannot be written."""
    node.instance.run(["ln", "-sf", "/proc/self/fd/1", "/tmp/a-link"])
    pod = node.pod(f"loud-{random.randrange(1 << 40):x}")
    done = node.instance.run([paths.PLUGIN], check=False, env=pod.environment("ADD"),
                             input=json.dumps(pod.configuration(pluginLogFile=log, pluginLogLevel="DEBUG")))
    printed = json.loads(done.stdout)
    if log in ("/tmp/a-link", "/dev/stderr"):
        assert done.returncode == 0 and printed["ips"]
        assert ("cannot write the log file /tmp/a-link: it is standard output" in done.stderr) == (log == "/tmp/a-link")
        assert ('"level":"info"' in done.stderr) == (log == "/dev/stderr")
        pod.delete()
    else:
        assert printed["code"] == 7 and "must not be stdout" in printed["msg"]
    node.delete_pods([pod])


def test_stdout_carries_the_result_alone(node: Node) -> None:
    pod = node.pod("quiet")
    done = node.instance.run([paths.PLUGIN], check=False, env=pod.environment("ADD"),
                             input=json.dumps(pod.configuration(pluginLogFile="", pluginLogLevel="DEBUG")))
    pod.result = json.loads(done.stdout)
    assert done.returncode == 0 and pod.result["ips"]
    pod.delete()
    node.delete_pods([pod])


def test_plugin_without_stdin_ends(node: Node) -> None:
    """A runtime that never closes stdin cannot block the plugin for ever once it has sent enough."""
    environment, configuration = good(node)
    done = subprocess.run(node.instance.command([paths.PLUGIN]), env={**os.environ, **environment},
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["code"] == 6
    assert configuration
