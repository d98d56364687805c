"""Assignments and releases a second of the pool's value, on nodes of several sizes."""

from __future__ import annotations

import json
import os
import subprocess

from harness import paths
from support.bench import Bench
from support.report import Row, Section

PROGRAM = paths.BINARY.parent.parent / "release" / "pool-rate"
# The size of the node in the target. The smallest node is the baseline: cost must not depend on the size.
TARGET = (15, 50)


def measure(bench: Bench) -> Section:
    section = Section("Pool value (baseline: the smallest node, same run), pairs of an assignment and a release")
    bench.say("pool: a million pairs on nodes of several sizes")
    done = subprocess.run([os.fspath(PROGRAM)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{PROGRAM}: status {done.returncode}: {done.stderr}")
    nodes = json.loads(done.stdout)
    section.raw = {"nodes": nodes}
    refused = [node for node in nodes if node["refused"]]
    if refused:
        raise RuntimeError(f"assignments refused on nodes with free addresses: {refused}")
    smallest = nodes[0]["pairsPerSecond"]
    for node in nodes[1:]:
        rate = node["pairsPerSecond"]
        # A pair is two operations.
        is_target = (node["enis"], node["slots"]) == TARGET
        section.rows.append(Row(f"{node['enis']} ENIs with {node['slots']} addresses", "pairs/s", smallest, rate,
                                "≥ 500,000 pairs" if is_target else "", rate >= 500_000 if is_target else None, 0,
                                f"{2 * rate:,} operations a second"))
    for node in nodes[1:]:
        section.rows.append(Row(f"one change and the checkpoint's text, {node['enis']} ENIs with {node['slots']}", "µs",
                                nodes[0]["textMicroseconds"], node["textMicroseconds"], digits=1,
                                note=f"{node['textBytes'] / 1000:.0f} kB of text, half of the addresses in use; not written"))
    return section
