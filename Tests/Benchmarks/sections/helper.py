"""The metrics helper: it reads and sums 5,000 agents, which one local server plays."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import paths
from harness.metrics_helper import PORT
from harness.node import Node
from harness.waiting import wait_for
from kubeapi import certificates
from prometheus_client.parser import text_string_to_metric_families
from support.bench import Bench
from support.report import Row, Section

AGENTS = 5_000
PODS_OF_AN_AGENT = 25
ROUNDS = 2
# Also the interval between rounds: a longer round is cut off, and its agents count as silent.
SECONDS = 10
MEGABYTES = 64
_ADDS = "awscni_add_ip_req_count"
_START = "process_start_time_seconds"


def measure(bench: Bench) -> Section:
    """Each agent's text comes from a real agent with pods, made an hour older. Server and helper share the machine's processors."""
    section = Section(f"Metrics helper, {AGENTS:,} agents through the API server's proxy (TLS, HTTP/1.1)")
    with bench.node("bench-helper", type="m5.large") as node, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bench.say(f"helper: the text of an agent with {PODS_OF_AN_AGENT} pods")
        text = _text_of_an_agent(bench, node)
        (folder / "text").write_text(text, encoding="utf-8")
        certificates.make(folder, ["127.0.0.1"])
        bench.say(f"helper: {AGENTS:,} agents, {ROUNDS} rounds")
        server = node.instance.popen(
            [sys.executable, str(Path(__file__).parents[1] / "programs" / "agents.py"), scratch, str(folder / "text"), str(AGENTS)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert server.stdin is not None and server.stdout is not None
        try:
            port = int(server.stdout.readline().split()[1])
            measured = _run_helper(node, folder, port)
            server.stdin.write("counts\n")
            server.stdin.flush()
            played = json.loads(server.stdout.readline())
        finally:
            server.stdin.close()
            server.wait(timeout=10)
    _check(measured, played)
    seconds, megabytes = measured["seconds"], measured["peak_kb"] / 1024
    section.rows = [
        Row("one round, list read before", "s", None, seconds, f"≤ {SECONDS}", seconds <= SECONDS, 2,
            f"{AGENTS / seconds:,.0f} agents and {len(text) * AGENTS / seconds / 1e6:.0f} MB a second, 32 at once"),
        Row("processor time of the helper in a round", "s", None, measured["cpu_seconds"], digits=2),
        Row("start to the first round's end", "s", None, measured["first_seconds"], digits=2, note=f"{played['pages']} pages of pods"),
        Row("VmHWM after the rounds", "MB", None, megabytes, f"≤ {MEGABYTES}", megabytes <= MEGABYTES, 1,
            f"RssAnon {measured['anonymous_kb'] / 1024:.1f}"),
    ]
    section.raw = {**measured, **played, "text_bytes": len(text)}
    return section


def _text_of_an_agent(bench: Bench, node: Node) -> str:
    node.agent.start()
    bench.connect(node, [f"h{number}" for number in range(PODS_OF_AN_AGENT)])
    got = wait_for(lambda: node.instance.run(["curl", "-sS", "-m", "5", "http://127.0.0.1:61678/metrics"], check=False).stdout,
                   "an agent's metrics")
    node.agent.kill()
    text = re.sub(rf"(?m)^{_ADDS} .*$", f"{_ADDS} @ADDS@", got)
    # The helper also counts the first values of an agent that is younger than itself; these agents are older.
    text = re.sub(rf"(?m)^{_START} (\S+)$", lambda found: f"{_START} {float(found[1]) - 3600}", text)
    if text.count("@ADDS@") != 1 or f"{_START} " not in text:
        raise RuntimeError(f"no {_ADDS} or no {_START} in the agent's text")
    return text


def _run_helper(node: Node, folder: Path, port: int) -> dict[str, float]:
    (folder / "kubeconfig").write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(folder / "ca.crt")}}],
        "users": [{"name": "u", "user": {"token": "token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}), encoding="utf-8")
    variables = {"KUBECONFIG": str(folder / "kubeconfig"), "USE_CLOUDWATCH": "no", "USE_PROMETHEUS": "yes",
                 "METRIC_UPDATE_INTERVAL": str(SECONDS), "AWS_VPC_K8S_CNI_LOGLEVEL": "info"}
    helper = node.instance.popen([str(paths.BINARY), "metrics-helper"], env=variables, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL)
    try:
        first = wait_for(lambda: _shown(node), "a round", 60, pause=0.1)
        last = wait_for(lambda: (shown if (shown := _shown(node)) and shown["rounds"] >= ROUNDS else None), "rounds",
                        60, pause=0.1)
        status = Path(f"/proc/{helper.pid}/status").read_text(encoding="ascii", errors="replace")
    finally:
        helper.terminate()
        helper.wait(timeout=15)
    fields = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.startswith(("VmHWM", "RssAnon"))}
    return {**last, "first_seconds": first["ended"] - first["started"], "peak_kb": fields["VmHWM"],
            "anonymous_kb": fields["RssAnon"], "seconds": last["seconds_of_all"] / last["rounds"],
            "cpu_seconds": last["cpu_of_all"] / last["rounds"]}


def _shown(node: Node) -> dict[str, float] | None:
    """The helper's metrics about its rounds; None before the first round has ended."""
    got = node.instance.run(["curl", "-sS", "-m", "5", f"http://127.0.0.1:{PORT}/metrics"], check=False).stdout
    values = {(sample.name, *sample.labels.values()): sample.value
              for family in text_string_to_metric_families(got) for sample in family.samples}
    prefix = "cni_metrics_helper_"
    if not values.get((f"{prefix}round_seconds_count",)):
        return None
    return {"rounds": values[f"{prefix}round_seconds_count",], "seconds_of_all": values[f"{prefix}round_seconds_sum",],
            "cpu_of_all": values["process_cpu_seconds_total",], "started": values["process_start_time_seconds",],
            "ended": values.get((f"{prefix}last_round_timestamp_seconds",), 0),
            "answered": values[f"{prefix}agents", "answered"], "silent": values[f"{prefix}agents", "silent"],
            "assigned": values[f"{prefix}sum", "assignIPAddresses"],
            "adds": values[f"{prefix}increments_total", "addReqCount"]}


def _check(measured: dict[str, Any], played: dict[str, Any]) -> None:
    """Detects a helper that only seems to read: every agent must be read once a round, and the sums must be theirs."""
    rounds = measured["rounds"]
    wanted = {"answered": AGENTS, "silent": 0, "assigned": AGENTS * PODS_OF_AN_AGENT, "adds": AGENTS * (rounds - 1)}
    wrong = {name: (measured[name], value) for name, value in wanted.items() if measured[name] != value}
    if wrong or not rounds <= played["least"] <= played["most"] <= rounds + 1:
        raise RuntimeError(f"sums are not what the agents said: {wrong}, readings {played}, {rounds} rounds")
