"""Where the time of one ADD goes: the parts of whole processes, separated by their system calls."""

from __future__ import annotations

from harness.node import Node
from harness.pod import Pod
from harness.waiting import wait_for
from sections.plugin import ENIS, ENVIRONMENT, INSTANCE_TYPE, host_veth
from support.bench import Bench, add_plugin
from support.report import Row, Section, summary
from support.spawner import Jobs, batch
from support.trace import Call, Process, Trace

ROUNDS = 30  # beside 700 pods, at most 735 can have addresses
LOADS = (0, 700)
FAULTS = "page faults of it"
PARTS = (
    "the loader: libc, libm, their relocations",
    "the runtime's start, until main reads its input",
    "input: read, parsed, checked",
    "both namespaces opened, two netlink sockets, is the name free",
    "the agent is asked: connect, encode, send",
    "the kernel makes the veth pair",
    "three settings of the host's end, and it is set up",
    "waiting for the agent's answer, and reading it",
    "host route, address, routes and neighbour of the pod",
    "result and log line made and written",
    "the process ends",
)


def measure(bench: Bench) -> Section:
    section = Section(f"One ADD, part by part, with {LOADS[0]} pods on the node and with {LOADS[1]}; tracing costs some of it")
    measured: list[dict[str, dict[str, float]]] = []
    with bench.node("bench-profile", type=INSTANCE_TYPE, environment=ENVIRONMENT) as node:
        node.agent.start()
        wait_for(lambda: len(node.enis()) == ENIS, f"{ENIS} ENIs", 30)
        for load, before in zip(LOADS, (0, *LOADS)):
            bench.connect(node, [f"load-{number}" for number in range(before, load)])
            bench.wait_quiet()
            bench.settle()
            bench.say(f"profile: {ROUNDS} ADDs with {load} pods")
            measured.append(_parts(_adds(bench, node, load)))
            section.raw[f"with_{load}_pods"] = measured[-1]
    few, many = measured
    for name in few:
        unit = "" if name == FAULTS else "ms"
        section.rows.append(Row(name, unit, few[name]["median"], many[name]["median"], digits=2 if unit else 0,
                                note=f"least: {few[name]['min']:.2f}, {many[name]['min']:.2f}" if unit else ""))
    return section


def _parts(processes: list[Process]) -> dict[str, dict[str, float]]:
    """Statistics in ms of each part and of the whole, and of the page faults."""
    cuts = [cut for process in processes if (cut := _cut(process)) is not None]
    if len(cuts) < ROUNDS // 2:
        raise RuntimeError(f"{len(cuts)} of {ROUNDS} runs could be told apart")
    parts = {name: summary([cut[number] / 1000 for cut in cuts]) for number, name in enumerate(PARTS)}
    parts["from exec to the end"] = summary([(process.ended - process.began) / 1000 for process in processes])
    parts[FAULTS] = summary([process.faults for process in processes])
    return parts


def _adds(bench: Bench, node: Node, load: int) -> list[Process]:
    """The processes of the ADDs alone."""
    plugin = bench.programs.plugin()
    jobs = Jobs()
    pods = [Pod(node.instance, f"p{load}-{number}") for number in range(ROUNDS)]
    batch(node.instance, [f"netns add {pod.name}" for pod in pods])
    for pod in pods:
        add_plugin(jobs, "add", plugin, pod, "ADD")
    # The DELs run after all ADDs: while the kernel deletes a veth pair, it holds the lock of all links.
    for pod in pods:
        add_plugin(jobs, "del", plugin, pod, "DEL", gone=host_veth(pod))
    trace = Trace()
    with trace.recording():
        bench.run(jobs, node)
    # Only ADD enters the pod's namespace.
    return [each for each in trace.processes if sum(call.name == "setns" for call in each.calls) == 2
            and any(call.name == "connect" for call in each.calls)]


def _cut(process: Process) -> list[float] | None:
    """µs of each part; None if the calls are not the expected ones."""
    calls = process.calls
    at = 0

    def next_one(name: str, after: str = "") -> Call | None:
        """The next call of that name after the last one found."""
        nonlocal at
        for number in range(at, len(calls)):
            if calls[number].name == name:
                at = number + 1
                return calls[number]
        return None

    loader = next_one("prlimit64")  # the loader's second to last call, in __libc_early_init
    reads = next_one("poll") or next_one("ppoll")
    first_read = next_one("read")
    last_read = next_one("read")
    opened = next_one("openat")
    connected = next_one("connect")
    asked = next_one("sendto")
    created = next_one("sendmsg")
    made = next_one("recvmsg")
    setup = next_one("sendmsg")
    up = next_one("recvmsg")
    answer = next_one("recvfrom")
    route = next_one("sendmsg")
    log = next_one("flock")
    ended = next_one("exit_group")
    del ended  # never returns
    marks = (loader, reads, first_read, last_read, opened, connected, asked, created, made, setup, up, answer, route, log)
    if any(mark is None for mark in marks):
        return None
    wired = max(call.ended for call in calls if call.name == "recvmsg")
    closed = [call for call in calls if call.name == "write"][-1]
    begun = connected.began  # the request is encoded between connect and sendto
    points = [process.began, loader.ended, reads.began, opened.began, begun, asked.ended, made.ended, up.ended,
              answer.ended, wired, closed.ended, process.ended]
    return [later - earlier for earlier, later in zip(points, points[1:])]
