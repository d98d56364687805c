"""Many pods at once: whole processes of the plugin, all started together, beside the kernel's work alone."""

from __future__ import annotations

from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from sections.plugin import MTU, host_veth
from support.bench import Bench, add_plugin
from support.report import Row, Section, summary
from support.spawner import Jobs, Sample, batch

# Simultaneous pods, and rounds: enough samples for a 99th percentile.
BURSTS = ((30, 12), (100, 5))
TARGETS_MS = {30: (60.0, 150.0)}

# 231 pod addresses. The pool has all of them before the measurement and assigns released ones again at once.
INSTANCE_TYPE = "m5.4xlarge"
ENIS = 8
ENVIRONMENT = {"MINIMUM_IP_TARGET": "231", "WARM_IP_TARGET": "1", "IP_COOLDOWN_PERIOD": "0"}


def measure(bench: Bench) -> Section:
    section = Section("Pods at once, whole processes")
    with bench.node("bench-pods", type=INSTANCE_TYPE, environment=ENVIRONMENT) as node:
        bench.say("pods: an agent with a full pool")
        node.agent.start()
        wait_for(lambda: len(node.enis()) == ENIS, f"{ENIS} ENIs", 30)
        bench.wait_quiet()
        for count, rounds in BURSTS:
            bench.say(f"pods: {rounds} rounds of {count} at once")
            samples: dict[str, list[Sample]] = {}
            for number in range(rounds):
                bench.settle(deadline=3.0)
                for label, values in _round(bench, node, count, number).items():
                    samples.setdefault(label, []).extend(values)
            section.raw[f"{count}_at_once"] = {label: summary([each.wall_ns / 1e6 for each in values])
                                               for label, values in samples.items()}
            _rows(section, count, section.raw[f"{count}_at_once"])
    return section


def _round(bench: Bench, node: Node, count: int, number: int) -> dict[str, list[Sample]]:
    """Runs all ADDs, then all DELs; the floor program does the same. Every other round the floor program comes first."""
    plugin, floor = bench.programs.plugin(), bench.programs.path("floor")
    pods = [Pod(node.instance, f"b{count}-{number}-{each}") for each in range(count)]
    batch(node.instance, [f"netns add {pod.name}{kind}" for pod in pods for kind in ("", "-floor")])

    def ours(jobs: Jobs) -> None:
        for command in ("add", "del"):
            for pod in pods:
                add_plugin(jobs, command, plugin, pod, command.upper(), later=True,
                           gone=host_veth(pod) if command == "del" else None)
            jobs.burst(f"all-{command}")

    def floors(jobs: Jobs) -> None:
        names = [(f"floo{each}", f"198.18.{each // 200}.{each % 200 + 1}", pod) for each, pod in enumerate(pods)]
        for name, address, pod in names:
            jobs.add("floor-add", [floor, "add", f"{pod.netns}-floor", name, "eth0", address, MTU], later=True)
        jobs.burst("all-floor-add")
        for name, address, _ in names:
            jobs.add("floor-del", [floor, "del", name, address], later=True)
        jobs.burst("all-floor-del")

    jobs = Jobs()
    for part in (ours, floors) if number % 2 == 0 else (floors, ours):
        part(jobs)
    samples = bench.run(jobs, node)
    if node.pod_veths() or node.pod_routes() or node.checkpoint():
        raise RuntimeError(f"{count} at once: something is left: {node.leftovers()}")
    batch(node.instance, [f"netns del {pod.name}{kind}" for pod in pods for kind in ("", "-floor")])
    return samples


def _rows(section: Section, count: int, times: dict[str, dict[str, float]]) -> None:
    targets = TARGETS_MS.get(count)
    for place, name in enumerate(("median", "p99")):
        label = {"median": "p50", "p99": "p99"}[name]
        ours = times["add"][name]
        section.rows.append(Row(f"{count} ADDs at once, {label}", "ms", times["floor-add"][name], ours,
                                f"≤ {targets[place]:.0f} ms" if targets else "",
                                ours <= targets[place] if targets else None, 1))
    for name, label in (("median", "p50"), ("p99", "p99")):
        section.rows.append(Row(f"{count} DELs at once, {label}, against the floor that deletes the veth", "ms",
                                times["floor-del"][name], times["del"][name], digits=1))
    rates = {label: count / times[label]["median"] * 1000 for label in ("all-add", "all-floor-add")}
    section.rows.append(Row(f"{count} ADDs at once, pods per second", "1/s", rates["all-floor-add"], rates["all-add"], digits=0))
