"""Many pods on many nodes at once, in virtual time: our pool beside the policy of amazon-vpc-cni-k8s."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

from harness import paths
from support.bench import Bench
from support.report import Row, Section

PROGRAM = paths.BINARY.parent.parent / "release" / "burst"


def measure(bench: Bench) -> Section:
    section = Section("Burst (baseline: the existing implementation's policy, same run; virtual time)")
    bench.say("burst: 500 nodes, three cases")
    cases, wall_seconds = _run()
    for case in cases:
        section.rows += _rows(case)
    section.raw = {"cases": cases, "wall_seconds": wall_seconds}
    wrong = [text for case in cases for policy in ("ours", "reference") for text in case[policy]["violations"]]
    if wrong:
        raise RuntimeError(f"addresses given out that should not have been: {wrong}")
    return section


def _run() -> tuple[list[dict[str, Any]], float]:
    began = time.monotonic()
    done = subprocess.run([os.fspath(PROGRAM), "--json"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{PROGRAM}: status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout), time.monotonic() - began


def _rows(case: dict[str, Any]) -> list[Row]:
    ours, theirs = case["ours"], case["reference"]
    bound = case["bound"]["seconds"]
    met = case["meetsTarget"]
    name = f"{case['name']}, {case['pods']:,} pods"
    times = [Row(f"{name}: {title}", "s", theirs[key], ours[key], digits=1)
             for title, key in (("half of them have addresses", "half"), ("99 %", "most"))]
    last = Row(f"{name}: all", "s", theirs["last"], ours["last"], f"≤ half, or ≤ {1.2 * bound:.0f}",
               _is_fast(ours["last"], theirs["last"], bound), 1, f"buckets alone: {bound:.0f} s")
    calls = Row(f"{name}: EC2 calls", "calls", _sent(theirs["calls"]), _sent(ours["calls"]), "≤ half",
                case["callRatio"] <= 0.5, 0, f"refused {_refused(theirs['calls']):,} and {_refused(ours['calls']):,}")
    failed = Row(f"{name}: failed sandboxes", "", theirs["failedSandboxes"], ours["failedSandboxes"], digits=0,
                 note="" if met else "target missed")
    return [*times, last, calls, failed]


def _is_fast(ours: float | None, theirs: float | None, bound: float) -> bool:
    if ours is None:
        return False
    return ours <= 1.2 * bound or theirs is None or ours <= 0.5 * theirs


def _sent(calls: dict[str, dict[str, int]]) -> int:
    return sum(count["accepted"] + count["refused"] for count in calls.values())


def _refused(calls: dict[str, dict[str, int]]) -> int:
    return sum(count["refused"] for count in calls.values())
