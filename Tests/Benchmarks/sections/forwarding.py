"""Packets per second that a node forwards between a pod and the outside, with different state for its pods."""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from typing import Any

from support import schemes
from support.bench import Bench
from support.report import Row, Section
from support.router import Router
from support.schemes import Pods, Recorded, State

COUNTS = (0, 110, 250, 737)
# Many short rounds. The best one counts: other work on the machine can only increase a packet's cost.
ROUNDS = 11
MILLISECONDS = 40
VETH = "enibench0000001"
REAL_PODS = 110

_Figures = dict[str, dict[str, dict[str, Any]]]


def measure(bench: Bench) -> Section:
    section = Section("Forwarding of 64-byte UDP frames (empty: no state but a route to the pod)")
    with ExitStack() as stack:
        routers: dict[str, Router] = {}

        def build(name: str, pod: str, state: State) -> None:
            routers[name] = Router(f"vpcbench-{os.getpid()}-{len(routers)}", pod, VETH, state)
            stack.callback(routers[name].close)

        bench.say("forwarding: building states")
        build("empty", Pods(0).measured, schemes.empty(Pods(0), VETH))
        for count in COUNTS:
            pods = Pods(count)
            build(f"ours-{count}", pods.measured, schemes.constant(pods, VETH))
            build(f"per-pod-{count}", pods.measured, schemes.per_pod(pods, VETH))
        try:
            _build_real(bench, section, build)
        except Exception as error:  # noqa: BLE001  the made-up states are measured in any case
            bench.problems.append(f"forwarding: the state that the agent writes: {error}")
        figures = _rounds(bench, routers)
    section.raw["states"] = figures
    for direction in ("out", "in"):
        _rows(section, figures, direction)
    return section


def _build_real(bench: Bench, section: Section, build: Any) -> None:
    """Reads the state of a node with real pods and puts it into routers like the others, with and without iptables."""
    with bench.node("bench-forwarding", type="m5.4xlarge") as node:
        node.agent.start()
        bench.connect(node, [f"f{number}" for number in range(REAL_PODS)])
        bench.wait_quiet()
        recorded = Recorded.read(node)
    section.raw["agent"] = recorded.summary()
    pod = recorded.secondary_pods()[0]
    build("agent", pod, recorded.state(VETH, with_iptables=False))
    build("agent-nat", pod, recorded.state(VETH, with_iptables=True))
    bare = schemes.empty(Pods(0), VETH)
    bare.iptables, bare.nft = recorded.iptables, recorded.connmark
    build("empty-nat", Pods(0).measured, bare)


def _rounds(bench: Bench, routers: dict[str, Router]) -> _Figures:
    """Measures all states in turn, several times, so that drift affects all of them equally."""
    program = bench.programs.path("traffic")
    seen: dict[str, dict[str, list[dict[str, Any]]]] = {name: {"out": [], "in": []} for name in routers}
    bench.settle()
    bench.say(f"forwarding: {ROUNDS} rounds")
    for _ in range(ROUNDS):
        for direction in ("out", "in"):
            for name, router in routers.items():
                seen[name][direction].append(router.measure(program, direction == "out", MILLISECONDS))
    return {name: {direction: _best(samples) for direction, samples in directions.items()}
            for name, directions in seen.items()}


def _best(samples: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [each["packets_per_second"] for each in samples]
    return {"packets_per_second": max(rates), "median_packets_per_second": statistics.median(rates),
            "round_trip_ns": min(each["round_trip_ns"] for each in samples),
            "lost": sum(each["lost"] for each in samples), "rounds": samples}


def _rows(section: Section, figures: _Figures, direction: str) -> None:
    way = {"out": "pod to outside", "in": "outside to pod"}[direction]

    def rate(name: str) -> float:
        return figures[name][direction]["packets_per_second"]

    def add(figure: str, baseline: str, ours: str, least: float | None = None, note: str = "") -> None:
        ratio = rate(ours) / rate(baseline)
        section.rows.append(Row(f"{way}, {figure}", "packets/s", rate(baseline), rate(ours), digits=0, note=note,
                                target=f"ratio ≥ {least}" if least else "", met=ratio >= least if least else None))

    for count in COUNTS:
        add(f"{count} pods, against empty", "empty", f"ours-{count}", least=0.8 if count == 737 else None)
    for count in COUNTS:
        share = rate(f"per-pod-{count}") / rate("empty")
        add(f"{count} pods, against per-pod rules", f"per-pod-{count}", f"ours-{count}",
            note=f"per-pod: {share:.2f} of empty")
    add("737 pods, against 0 pods", "ours-0", "ours-737")
    if "agent" in figures:
        add(f"agent's own state, {REAL_PODS} pods, against made up", f"ours-{REAL_PODS}", "agent")
        add("the same with its iptables rules, both sides", "empty-nat", "agent-nat")
    if direction == "out":
        trip = {name: figures[name][direction]["round_trip_ns"] / 1000 for name in figures}
        section.rows.append(Row("round trip, 737 pods, against empty", "µs", trip["empty"], trip["ours-737"],
                                digits=1))
        section.rows.append(Row("round trip, 737 pods, against per-pod rules", "µs", trip["per-pod-737"],
                                trip["ours-737"], digits=1))
