"""The binary: its size, its requirements on the node's system, and the system calls of one ADD."""

from __future__ import annotations

import json
import re
import subprocess

from harness import paths
from harness.node import Node
from harness.pod import Pod
from support.bench import Bench
from support.report import Row, Section
from support.spawner import batch

REFERENCE_MB = 188  # seven binaries of amazon-vpc-cni-k8s
_ALLOWED = re.compile(r"libc\.so\.6|libm\.so\.6|ld-linux-x86-64\.so\.2|ld-linux-aarch64\.so\.1")
_FORKS = ("fork", "vfork", "clone", "clone3")


def measure(bench: Bench) -> Section:
    section = Section("Binary")
    size = paths.BINARY.stat().st_size / 1e6
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", _output("readelf", "-d", str(paths.BINARY)))
    symbols = {tuple(map(int, each.split("."))) for each in
               re.findall(r"GLIBC_([0-9.]+)", _output("objdump", "-T", str(paths.BINARY)))}
    newest = max(symbols, default=(0,))
    foreign = [each for each in needed if not _ALLOWED.fullmatch(each)]
    section.rows = [
        Row("size, stripped", "MB", REFERENCE_MB, size, "≤ 30", size <= 30, 1, "existing: seven binaries"),
        Row("libraries needed beside libc, libm, loader", "", None, len(foreign), "0", not foreign, 0,
            " ".join(needed)),
        Row("newest glibc symbol, 2.x", "", None, newest[1] if len(newest) > 1 else 0, "≤ 34", newest <= (2, 34), 0),
    ]
    section.raw = {"bytes": paths.BINARY.stat().st_size, "needed": needed, "newest_glibc": ".".join(map(str, newest))}
    try:
        _system_calls(bench, section)
    except Exception as error:  # noqa: BLE001  the rest of the section is valid without it
        bench.problems.append(f"size: system calls of one ADD: {error}")
    return section


def _system_calls(bench: Bench, section: Section) -> None:
    bench.say("size: system calls of one ADD")
    with bench.node("bench-size", type="m5.large") as node:
        node.agent.start()
        pod = Pod(node.instance, "traced")
        batch(node.instance, ["netns add traced", "netns add traced-floor"])
        floor = _trace(node, [bench.programs.path("floor"), "add", "/run/netns/traced-floor", "floo0", "eth0",
                              "198.18.0.1", "9001"], {}, "")
        ours = _trace(node, [bench.programs.plugin()], pod.environment("ADD"), json.dumps(pod.configuration()))
    forks = sum(ours.get(name, 0) for name in _FORKS)
    section.rows += [
        Row("system calls of one ADD, against the floor", "calls", sum(floor.values()), sum(ours.values()), digits=0),
        Row("processes and threads that it starts", "", None, forks, "0", forks == 0, 0),
    ]
    section.raw |= {"add_system_calls": ours, "floor_system_calls": floor}


def _trace(node: Node, words: list[str], environment: dict[str, str], text: str) -> dict[str, int]:
    """Calls by name. Raises RuntimeError with the command's output."""
    done = node.instance.run(["strace", "-f", "-c", "-U", "calls,name", "-o", "/run/strace", *words], env=environment,
                             input=text, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"strace {words[0]}: {done.stderr or done.stdout}")
    counted = re.findall(r"^ *(\d+) +(\w+)$", node.instance.run(["cat", "/run/strace"]).stdout, re.MULTILINE)
    return {name: int(calls) for calls, name in counted if name != "total"}


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
