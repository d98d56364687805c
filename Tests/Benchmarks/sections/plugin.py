"""Whole processes of the plugin beside `/bin/true` and beside the lowest possible cost of the kernel's work."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from harness.ipv6 import IPV6, init
from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from support.bench import Bench, add_plugin
from support.report import Row, Section, summary
from support.spawner import Jobs, Sample, batch

# Address family and number of other pods on the node.
LOADS = ((4, 0), (4, 100), (4, 700), (6, 0), (6, 700))
Load = tuple[int, int]
# Turns of a few rounds. Each turn runs on each node, so that other load on the machine affects all of them alike.
TURNS = 6
ROUNDS = 10
WARM_UP = 2
MTU = "9001"

# The largest m5: 15 ENIs with 49 pod addresses each. The pool has all of them before the measurement, and a released
# address can be assigned again at once, so that no EC2 call falls into a measured time.
INSTANCE_TYPE = "m5.24xlarge"
ENIS = 15
ENVIRONMENT = {"MINIMUM_IP_TARGET": "735", "WARM_IP_TARGET": "1", "IP_COOLDOWN_PERIOD": "0"}

# amazon-vpc-cni-k8s on the same kind of machine; not measured here.
REFERENCE_MS = {"version": 6.4, "add": 15.0, "del": 12.4}


def measure(bench: Bench) -> Section:
    section = Section("Plugin, whole processes, median")
    with ExitStack() as stack:
        nodes = {load: _loaded(bench, stack, load) for load in LOADS}
        bench.settle()
        samples: dict[Load, dict[str, list[Sample]]] = {load: defaultdict(list) for load in LOADS}
        used = {load: _processor_ms(node) for load, node in nodes.items()}
        for turn in range(TURNS):
            bench.say(f"plugin: turn {turn + 1} of {TURNS}")
            first = turn % len(LOADS)
            for load in (*LOADS[first:], *LOADS[:first]):
                for label, values in _rounds(bench, nodes[load], turn).items():
                    samples[load][label] += values
        for load, node in nodes.items():
            agent_ms = (_processor_ms(node) - used[load]) / (TURNS * (ROUNDS + WARM_UP))
            _check(node, load)
            section.raw[_key(load)] = {name: _statistics(each) for name, each in samples[load].items()}
            section.raw[_key(load)]["agent_cpu_ms"] = agent_ms
            _rows(section, load, samples[load])
            section.rows.append(Row(f"agent's processor time for ADD and DEL, {_words(load)}", "ms", None, agent_ms,
                                    note="and for looks at the pods' routes: the floor's are another program's to it"))
        for family in (4, 6):
            least, most = (choose(load for load in LOADS if load[0] == family) for choose in (min, max))
            for command in ("add", "del", "floor-add"):
                few, many = (_median(section, load, command) for load in (least, most))
                goal = ("ratio ≤ 1.2", many <= 1.2 * few) if command != "floor-add" else ("", None)
                name = "the floor's ADD, which has no state" if command == "floor-add" else command.upper()
                section.rows.append(Row(f"{name}, {_words(most)} against {least[1]}", "ms", few, many, *goal))
        section.raw["agent_memory_at_end_kB"] = nodes[4, 700].agent.memory()
    return section


def _loaded(bench: Bench, stack: ExitStack, load: Load) -> Node:
    """A node with a full pool, on which as many pods have addresses as the load says."""
    family, pods = load
    bench.say(f"plugin: an agent with a full pool and {_words(load)}")
    environment = ENVIRONMENT if family == 4 else IPV6 | {"IP_COOLDOWN_PERIOD": "0"}
    node = stack.enter_context(bench.node(f"bench-plugin-{family}-{pods}", type=INSTANCE_TYPE, environment=environment))
    if family == 6:
        init(node)
    node.agent.start()
    if family == 4:
        wait_for(lambda: len(node.enis()) == ENIS, f"{ENIS} ENIs", 30)
    bench.wait_quiet()
    bench.connect(node, [f"load-{number}" for number in range(pods)])
    bench.wait_quiet()
    return node


def _key(load: Load) -> str:
    family, pods = load
    return f"with_{pods}_pods" if family == 4 else f"ipv6_with_{pods}_pods"


def _words(load: Load) -> str:
    family, pods = load
    return f"{pods} pods" if family == 4 else f"{pods} pods, IPv6"


def _median(section: Section, load: Load, command: str) -> float:
    return section.raw[_key(load)][command]["wall_ms"]["median"]


def _rounds(bench: Bench, node: Node, turn: int) -> dict[str, list[Sample]]:
    """Every round runs every command once, odd rounds in reverse order: no command always follows the same one."""
    jobs = Jobs()
    plugin, floor = bench.programs.plugin(), bench.programs.path("floor")
    names = []
    for number in range(-WARM_UP, ROUNDS):
        stem = f"r{turn}-{number + WARM_UP}"
        names += [stem, f"{stem}-floor", f"{stem}-route"]
        _round(jobs, node, Pod(node.instance, stem), plugin, floor, number)
    batch(node.instance, [f"netns add {name}" for name in names])
    samples = bench.run(jobs, node)
    return {label: values for label, values in samples.items() if not label.startswith("_")}


def _round(jobs: Jobs, node: Node, pod: Pod, plugin: str, floor: str, number: int) -> None:
    prefix = "_warm-up-" if number < 0 else ""
    # The plugin will choose this name, which depends only on the pod's name.
    veth = host_veth(pod)
    stems = {"floor": f"floo{number + WARM_UP}", "route": f"rout{number + WARM_UP}"}
    stem = "2001:db8:5::" if node.family == 6 else "198.18.0."
    addresses = {"floor": f"{stem}1", "route": f"{stem}2"}

    def floor_add(kind: str) -> None:
        jobs.add(f"{prefix}floor-add", [floor, "add", f"{pod.netns}-{kind}", stems[kind], "eth0", addresses[kind], MTU])

    def version() -> None:
        jobs.add(f"{prefix}version", [plugin], env={"CNI_COMMAND": "VERSION"},
                 stdin=['{"cniVersion":"0.4.0"}'])

    def floor_del() -> None:
        jobs.add(f"{prefix}floor-del", [floor, "del", stems["floor"], addresses["floor"]])

    def floor_del_route() -> None:
        jobs.add(f"{prefix}floor-del-route", [floor, "del-route", stems["route"], addresses["route"]])
        jobs.add("_link-del", ["/sbin/ip", "link", "delete", stems["route"]])

    steps = [
        [lambda: jobs.add(f"{prefix}true", ["/bin/true"]), version],
        [lambda: floor_add("floor"), lambda: add_plugin(jobs, f"{prefix}add", plugin, pod, "ADD"),
         lambda: floor_add("route")],
        [floor_del, lambda: add_plugin(jobs, f"{prefix}del", plugin, pod, "DEL", gone=veth), floor_del_route],
    ]
    for group in steps:
        for step in group if number % 2 == 0 else reversed(group):
            step()


def _processor_ms(node: Node) -> float:
    """The agent's user and system time so far."""
    fields = Path(f"/proc/{node.agent.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def host_veth(pod: Pod) -> str:
    """The contract's name for the host-side veth."""
    return "eni" + hashlib.sha1(f"{pod.namespace}.{pod.name}".encode()).hexdigest()[:11]


def _check(node: Node, load: Load) -> None:
    """Checks that the measured commands worked: only the load's pods are left, wired and known to the agent."""
    _, pods = load
    wait_for(lambda: len(node.pod_routes()) == pods and len(node.pod_veths()) == pods, f"{pods} wired pods", 10)
    known = len(node.checkpoint())
    if known != pods:
        raise RuntimeError(f"the agent knows {known} pods instead of {load}")


def _statistics(samples: list[Sample]) -> dict[str, object]:
    return {"wall_ms": summary([each.wall_ns / 1e6 for each in samples]),
            "cpu_ms": summary([each.cpu_us / 1e3 for each in samples]),
            "minor_faults": summary([each.faults for each in samples]),
            "context_switches": summary([each.switches for each in samples])}


def _rows(section: Section, load: Load, samples: dict[str, list[Sample]]) -> None:
    times = {label: summary([each.wall_ns / 1e6 for each in values]) for label, values in samples.items()}
    median = {label: each["median"] for label, each in times.items()}

    def add(figure: str, baseline: str, ours: str, most: float | None = None, target: str = "") -> None:
        difference = median[ours] - median[baseline]
        note = f"least: {times[baseline]['min']:.2f}, {times[ours]['min']:.2f}"
        if load == (4, 0) and baseline in ("true", "floor-add", "add"):
            note += f"; existing: {REFERENCE_MS[ours]} ms"
        section.rows.append(Row(f"{figure}, {_words(load)}", "ms", median[baseline], median[ours], target,
                                None if most is None else difference <= most, note=note))

    add("VERSION against /bin/true", "true", "version", 2.0, "≤ baseline + 2")
    add("ADD against the floor", "floor-add", "add", 2.5, "≤ baseline + 2.5")
    add("DEL against ADD", "add", "del", 0.0, "≤ baseline")
    add("DEL against the floor that deletes the veth", "floor-del", "del")
    add("DEL against the floor that leaves the veth", "floor-del-route", "del")
