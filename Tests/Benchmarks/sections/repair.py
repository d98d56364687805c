"""The cost of maintaining the node's network: the agent's processor time of one check and of one repair."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

from harness.node import Node
from harness.waiting import wait_for
from support.bench import Bench
from support.report import Row, Section, summary

LOADS = (0, 700)
LOOKS = 12  # full checks, one each 50 s of the agent's time
DEEDS = 5

# The largest m5 with a full pool: the agent makes no EC2 calls during a measurement.
INSTANCE_TYPE = "m5.24xlarge"
ENIS = 15
ENVIRONMENT = {"MINIMUM_IP_TARGET": "735", "WARM_IP_TARGET": "1"}

# The limit of processor time for the check of each minute with 700 pods.
MOST_OF_A_MINUTE_MS = 60.0  # 0.1 %


def measure(bench: Bench) -> Section:
    section = Section("Repair of the node's network: the agent's processor time (baseline: without pods)")
    with bench.node("bench-repair", type=INSTANCE_TYPE, environment=ENVIRONMENT, fast_clock=True) as node:
        bench.say("repair: an agent with a full pool")
        node.agent.start()
        wait_for(lambda: len(node.enis()) == ENIS and len(node.agent_rules()) == ENIS - 1, f"{ENIS} ENIs", 60)
        there = 0
        for load in LOADS:
            bench.say(f"repair: {load} pods")
            bench.connect(node, [f"r{number}" for number in range(there, load)])
            there = load
            bench.wait_quiet()
            # The repair ignores young pods.
            _pass(node, 60)
            bench.settle()
            section.raw[f"{load}_pods"] = {"minute": _minutes(bench, node), **_deeds(bench, node)}
    _rows(section, section.raw["0_pods"], section.raw["700_pods"])
    return section


def _minutes(bench: Bench, node: Node) -> dict[str, Any]:
    """Processor time of the agent's threads in each minute of the agent's time, which includes one full check."""
    bench.say(f"repair: {LOOKS} minutes that pass")
    whole, threads = [], []
    for _ in range(LOOKS):
        before = _processor_times(node)
        _pass(node, 60)
        after = _processor_times(node)
        spent = {name: after[name] - before.get(name, 0.0) for name in after}
        whole.append(sum(spent.values()))
        threads.append(spent["kernel"])
    return {"agent": summary(whole), "kernel": summary(threads)}


def _deeds(bench: Bench, node: Node) -> dict[str, Any]:
    """The cost to detect and repair one change, and to restore all pods' routes."""
    figures: dict[str, Any] = {}
    for name, words, priority in (("rule", "rule del priority 1024", 1024), ("routes", "route flush table 20512", None)):
        if name == "routes" and not node.pod_routes():
            continue
        bench.say(f"repair: {DEEDS} times {words}")
        spent, took = [], []
        for _ in range(DEEDS):
            _pass(node, 150)  # after three repairs in two minutes, the agent delays the next one
            routes = len(node.pod_routes())
            before, began = sum(_processor_times(node).values()), time.time()
            node.instance.run(["ip", *words.split()])
            wait_for(lambda: (any(rule["priority"] == priority for rule in node.rules()) if priority
                              else len(node.pod_routes()) == routes) or None, f"{words} undone", 20)
            said = wait_for(lambda: _last_word(node, began), "the agent's word of it", 20)
            spent.append(sum(_processor_times(node).values()) - before)
            took.append((said - began) * 1000)
        figures[name] = {"processor": summary(spent), "wall": summary(took)}
    return figures


def _rows(section: Section, empty: dict[str, Any], full: dict[str, Any]) -> None:
    def row(figure: str, *keys: str, **more: Any) -> None:
        def value(raw: dict[str, Any]) -> float | None:
            for key in keys:
                raw = raw.get(key, {})
            return raw.get("median")

        section.rows.append(Row(figure, "ms", value(empty), value(full), **more))

    most = full["minute"]["agent"]["median"]
    row("a minute of an idle agent with 700 pods, all threads", "minute", "agent",
        target=f"<= {MOST_OF_A_MINUTE_MS:.0f}", met=most <= MOST_OF_A_MINUTE_MS, note="0.1 % of a processor")
    row("the same, the thread that looks", "minute", "kernel")
    row("one rule deleted: found and mended, processor time", "rule", "processor")
    row("the same, from the deed until told", "rule", "wall", target="<= 2000",
        met=full["rule"]["wall"]["median"] <= 2000, note="0.1 s of it gathers notices")
    row("700 pods' routes flushed: put back, processor time", "routes", "processor")
    row("the same, from the deed until told", "routes", "wall", target="<= 2000",
        met=full["routes"]["wall"]["median"] <= 2000)


def _pass(node: Node, seconds: float) -> None:
    """Lets this much of the agent's time pass."""
    clock = node.agent.clock
    assert clock is not None
    until = clock.elapsed() + seconds
    with node.hurry(30):
        wait_for(lambda: clock.elapsed() > until, f"{seconds} s of the agent's time", 60)


def _processor_times(node: Node) -> dict[str, float]:
    """Processor time in ms of each of the agent's threads, by name. Threads that ended are not included."""
    times: dict[str, float] = {}
    for task in Path(f"/proc/{node.agent.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        times[name] = times.get(name, 0.0) + int((task / "schedstat").read_text().split()[0]) / 1e6
    return times


def _last_word(node: Node, began: float) -> float | None:
    """The wall-clock time of the last repair in the log since `began`; None if there is none."""
    last = None
    for line in node.agent.log().splitlines()[-200:]:
        if "changed the node network; repaired" in line:
            at = datetime.datetime.fromisoformat(json.loads(line)["ts"]).timestamp()
            last = at if at >= began else last
    return last
