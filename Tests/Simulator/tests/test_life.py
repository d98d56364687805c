"""Startup, shutdown, and the check that nothing is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import until
from simulator.channel import CommandError
from simulator.client import LAUNCHER, Simulator
from simulator.patience import patient

ENVIRONMENT = {**os.environ, "VPCSIM_VENV": sys.prefix}


def vpcsim(*words: str, name: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(LAUNCHER), *words], env={**ENVIRONMENT, "VPCSIM_NAME": name}, text=True, capture_output=True,
                          check=False, timeout=patient(60))


def leftovers(name: str) -> list[str]:
    """Mounts, files and processes that contain the name."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"/{name}/" in line or f"vpcsim-{name} " in line]
    if os.path.lexists(f"/tmp/vpcsim/{name}"):
        found.append(f"/tmp/vpcsim/{name}")
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if name in words or any(f"/{name}/ns" in word for word in words):
                found.append(f"{entry}: {' '.join(words)}")
    return found


def namespaces() -> dict[int, str]:
    """Every network namespace that a process of this machine is in or has mounted, with a path to it."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found[os.stat(f"/proc/{entry}/ns/net").st_ino] = f"/proc/{entry}/ns/net"
                for inode, path in re.findall(r" net:\[(\d+)\] (\S+) ", Path(f"/proc/{entry}/mountinfo").read_text()):
                    found.setdefault(int(inode), f"/proc/{entry}/root{path}")
            except OSError:
                continue
    return found


def cookie(path: str) -> str:
    """Identifies a namespace uniquely since boot (SO_NETNS_COOKIE): the kernel reuses inode numbers."""
    program = "import socket; print(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).getsockopt(socket.SOL_SOCKET, 71, 8).hex())"
    return subprocess.run(["nsenter", f"--net={path}", sys.executable, "-c", program], check=False, capture_output=True, text=True).stdout


def namespaces_of(simulator: Simulator) -> dict[int, str]:
    found = {each.stat().st_ino: cookie(str(each)) for each in (Path(simulator.ready["state"]) / "ns").glob("*.net")}
    assert len(found) == 3 and all(found.values()) and found.keys() <= namespaces().keys()
    return found


def alive(own: dict[int, str]) -> list[str]:
    """The namespaces of `own` that still exist. Another simulator on this machine may have received their numbers."""
    now = namespaces()
    return [now[inode] for inode in own.keys() & now.keys() if cookie(now[inode]) == own[inode]]


def busy(simulator: Simulator) -> list[subprocess.Popen]:
    """Starts processes in an instance and in a pod's namespace, and children that leave the session."""
    node = simulator.add_instance("n1")
    node.run(["ip", "netns", "add", "pod"])
    started = [node.popen(["sleep", "1000"]), node.popen(["ip", "netns", "exec", "pod", "sleep", "1001"]),
               node.popen(["setsid", "sh", "-c", "sleep 1002 & wait"])]
    until(lambda: subprocess.run(["pgrep", "-f", "^sleep 1002"], check=False, capture_output=True).returncode == 0)
    return started


def test_down_leaves_nothing():
    simulator = Simulator().start()
    children = busy(simulator)
    own = namespaces_of(simulator)
    assert leftovers(simulator.name)
    simulator.stop()
    for child in children:
        assert child.wait(timeout=patient(30)) == -signal.SIGKILL
    assert leftovers(simulator.name) == []
    assert alive(own) == []


def test_down_after_the_daemon_was_killed_leaves_nothing():
    simulator = Simulator().start()
    children = busy(simulator)
    own = namespaces_of(simulator)
    os.kill(simulator.ready["pid"], signal.SIGKILL)
    simulator._process.wait(timeout=patient(30))
    assert "no simulated VPC" in vpcsim("instances", name=simulator.name).stderr
    assert vpcsim("down", name=simulator.name).stdout == f"removed {simulator.name}\n"
    for child in children:
        assert child.wait(timeout=patient(30)) == -signal.SIGKILL
    simulator.stop()
    assert leftovers(simulator.name) == []
    assert alive(own) == []


def test_removing_an_instance_ends_what_runs_in_it():
    with Simulator() as simulator:
        children = busy(simulator)
        simulator.remove_instance("n1")
        for child in children:
            assert child.wait(timeout=patient(30)) == -signal.SIGKILL
        assert simulator.instances() == [] and not [each for each in leftovers(simulator.name) if "n1" in each]
        assert simulator.add_instance("n1").address == "192.168.64.4"


def test_a_failed_instance_leaves_nothing_and_its_name_is_free():
    with Simulator() as simulator:
        free = {each["name"]: each["free"] for each in simulator.ask("subnets")}
        blocker = Path(simulator.ready["state"]) / "ns" / "n1.net"
        blocker.touch()
        with pytest.raises(CommandError, match="File exists"):
            simulator.add_instance("n1")
        assert simulator.instances() == [] and simulator.enis() == []
        assert {each["name"]: each["free"] for each in simulator.ask("subnets")} == free
        assert simulator.add_instance("n1").run(["ip", "-br", "address", "show", "ens5"]).stdout.split()[1] == "UP"


def test_the_daemon_ends_with_the_one_who_started_it():
    program = ("import os, sys; sys.path.insert(0, sys.argv[1]); from simulator.client import Simulator\n"
               "s = Simulator('orphan').start(); s.add_instance('n1'); print('up', flush=True); os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", program, str(LAUNCHER.parent)], env=ENVIRONMENT, capture_output=True, text=True,
                          check=False, timeout=patient(60))
    assert done.stdout == "up\n", done.stderr
    until(lambda: leftovers("orphan") == [])


def test_two_at_once_do_not_meet(tmp_path):
    with Simulator() as one, Simulator(state=tmp_path / "state", region="eu-west-1") as two:
        first, second = one.add_instance("n1"), two.add_instance("n1")
        assert first.address == second.address
        assert first.instance_id != second.instance_id
        assert two.ec2().describe_subnets()["Subnets"][0]["AvailabilityZone"] == "eu-west-1a"
        assert json.loads((tmp_path / "state" / "ready").read_text())["name"] == two.name
        again = Simulator(one.name)
        with pytest.raises(RuntimeError, match="is up already"):
            again._process = None
            _start_only(again)
    assert list((tmp_path / "state").iterdir()) == []
    assert leftovers(one.name) == leftovers(two.name) == []


def _start_only(simulator: Simulator) -> None:
    done = vpcsim("up", "--name", simulator.name, name=simulator.name)
    raise RuntimeError(done.stderr) if done.returncode else AssertionError("it came up twice")


def test_the_command_line():
    name = "by-hand"
    assert vpcsim("up", "--background", name=name).stdout == "ready\n"
    try:
        assert "192.168.64.4" in vpcsim("instance", "add", "n1", "--type", "t3.medium", name=name).stdout
        assert "ens5" in vpcsim("enis", name=name).stdout
        assert vpcsim("exec", "n1", "--", "sh", "-c", "exit 7", name=name).returncode == 7
        assert vpcsim("exec", "n1", "--", "printenv", "AWS_ENDPOINT_URL", name=name).stdout == "http://198.18.0.1\n"
        assert "198.51.100.10" in vpcsim("exec", "@internet", "--", "ip", "-br", "addr", name=name).stdout
        for words in ("instances", "enis n1", "counts", "drops", "internet", "fault list", "subnet list", "iam list", "status", "list"):
            done = vpcsim(*words.split(), name=name)
            assert done.returncode == 0 and done.stderr == "", done
        for words in ("counts --json --reset", "drops --json --reset", "instances --json"):
            json.loads(vpcsim(*words.split(), name=name).stdout)
        for words in ("fault add DescribeSubnets --code X --message Y --http 503 --times 2 --when before --delay 0.1",
                      "fault clear", "throttle on", "throttle off", "throttle bucket CreateTags 1 1", "latency CreateTags 0.1",
                      "imds lag n1 1", "imds off", "imds on n1", "imds v1", "imds v2", "imds rotate", "delay --attach 1",
                      "subnet add c 192.168.160.0/24 --zone b", "subnet take c --leave 3", "subnet free c", "subnet fragment c",
                      "subnet reserve a 192.168.65.0/24", "cidr add 100.64.0.0/16",
                      "cidr list", "cidr remove 100.64.0.0/16", "iam deny CreateTags", "iam allow CreateTags",
                      "instance rm n1"):
            done = vpcsim(*words.split(), name=name)
            assert done.returncode == 0, done
    finally:
        assert vpcsim("down", name=name).stdout == f"removed {name}\n"
    assert leftovers(name) == []
    assert vpcsim("down", name=name).stdout == "nothing to remove\n"


def test_the_command_line_of_ipv6(vpc6):
    def said(words: str) -> str:
        done = vpcsim(*words.split(), name=vpc6.name)
        assert done.returncode == 0 and done.stderr == "", done
        return done.stdout

    assert json.loads(said("status"))["vpc_cidr6"] == "2001:db8:1234:1a00::/56"
    assert json.loads(said("instance add n1 --json"))["address6"] == "2001:db8:1234:1a00::4"
    assert json.loads(said("instance add n2 --no-ipv6 --json"))["address6"] is None
    assert "PREFIXES6" in said("enis") and "2001:db8:1234:1a01::/64" in said("subnet list")
    said(f"reverse {json.loads(said('enis n1 --json'))[0]['eni']}")
    said("subnet fragment b --family 6 --leave 2")
    assert {each["name"]: each["free_prefixes6"] for each in json.loads(said("subnet list --json"))}["b"] == 2
    for words in ("subnet free b", "router lifetime 1800", "drops", "instance rm n1", "instance rm n2"):
        said(words)
    refused = vpcsim("router", "lifetime", "1", name=vpc6.name)
    assert refused.returncode == 1 and "router lifetime 1" in refused.stderr


@pytest.mark.parametrize("words,named", [
    ("instance add N_1", "'N_1'"), ("instance add n --type m9.huge", "'m9.huge'"), ("instance add n --subnet z", "'z'"),
    ("instance rm nobody", "'nobody'"), ("enis nobody", "'nobody'"), ("exec nobody -- true", "'nobody'"),
    ("fault add X --http 9", "http 9"), ("fault add X --times 0", "times 0"), ("latency X -1", "latency -1"),
    ("imds lag nobody 1", "'nobody'"), ("subnet take z", "'z'"), ("subnet add a 192.168.64.0/19", "'a'"),
    ("subnet add d 10.0.0.0/8", "10.0.0.0/8"), ("subnet add d 1.2.3.4.5", "1.2.3.4.5"), ("delay --attach 9999", "9999"),
    ("subnet reserve a 10.0.0.0/28", "192.168.64.0/19"), ("cidr add 192.168.1.0/24", "192.168.0.0/16"),
    ("cidr add 100.64.0.0/8", "/8"), ("cidr add nonsense", "nonsense"), ("cidr remove 10.9.0.0/16", "10.9.0.0/16"), ("instance add n --rp-filter 9", "rp_filter 9"),
    ("up --name X", "'X'"), ("up --subnet a", "'a'"), ("up --vpc-cidr 1.2.3.4/16", "'1.2.3.4/16'"), ("up --latency X=no", "'X=no'"),
    ("up --family ipv6", "'ipv6'"), ("up --router-lifetime 1", "router lifetime 1"), ("router lifetime 30", "--family dual"),
    ("subnet fragment a --family 6", "family 6"), ("subnet fragment a --leave -1", "leave -1"),
    ("up --imds-lag 9999", "9999"), ("up --subnet a=10.0.0.0/24", "10.0.0.0/24"),
])
def test_bad_words_are_named(shared, words, named):
    done = vpcsim(*words.split(), name=shared.name if not words.startswith("up") else "never")
    assert done.returncode != 0 and named in done.stderr and "Traceback" not in done.stderr, done
    assert leftovers("never") == []
