"""What keeping the node's network costs: the agent's processor time of one look, and of what somebody undoes."""

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
LOOKS = 12  # at everything, one each 50 s of the agent's time
DEEDS = 5

# The largest m5 with a full pool: nothing is asked of EC2 while something is measured.
INSTANCE_TYPE = "m5.24xlarge"
ENIS = 15
ENVIRONMENT = {"MINIMUM_IP_TARGET": "735", "WARM_IP_TARGET": "1"}

# What the minute's look may take of one processor with 700 pods.
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
            # Of young pods the repair takes no notice.
            _pass(node, 60)
            bench.settle()
            section.raw[f"{load}_pods"] = {"minute": _minutes(bench, node), **_deeds(bench, node)}
    _rows(section, section.raw["0_pods"], section.raw["700_pods"])
    return section


def _minutes(bench: Bench, node: Node) -> dict[str, Any]:
    """Of each minute of the agent's time, its threads' processor time; the look at everything is in it."""
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
    """What the agent takes to find and mend one thing, and to put all pods' routes back."""
    figures: dict[str, Any] = {}
    for name, words, priority in (("rule", "rule del priority 1024", 1024), ("routes", "route flush table 20512", None)):
        if name == "routes" and not node.pod_routes():
            continue
        bench.say(f"repair: {DEEDS} times {words}")
        spent, took = [], []
        for _ in range(DEEDS):
            _pass(node, 150)  # what was mended three times in two minutes waits
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
    """So much of the agent's time goes by."""
    clock = node.agent.clock
    assert clock is not None
    until = clock.elapsed() + seconds
    with node.hurry(30):
        wait_for(lambda: clock.elapsed() > until, f"{seconds} s of the agent's time", 60)


def _processor_times(node: Node) -> dict[str, float]:
    """Milliseconds that each of the agent's threads, by name, has run. Of threads that end nothing is kept."""
    times: dict[str, float] = {}
    for task in Path(f"/proc/{node.agent.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        times[name] = times.get(name, 0.0) + int((task / "schedstat").read_text().split()[0]) / 1e6
    return times


def _last_word(node: Node, began: float) -> float | None:
    """When the log last told of a repair since `began`, by the calendar; None where it has not."""
    last = None
    for line in node.agent.log().splitlines()[-200:]:
        if "changed the node network; repaired" in line:
            at = datetime.datetime.fromisoformat(json.loads(line)["ts"]).timestamp()
            last = at if at >= began else last
    return last
