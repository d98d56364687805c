#!/usr/bin/env python3
"""`make bench`: measures the built binary beside baselines of the same run.

Prints a table and writes all measurements to a JSON file. A slow machine or a missed target is reported and is no
failure; exit status 1 means that something could not be measured, and stderr says what and why.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
import traceback
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "EndToEnd")]

from harness import paths  # noqa: E402  puts the simulator on the path
from support.bench import Bench  # noqa: E402
from support.report import Section, print_table  # noqa: E402

# The plugin comes last: it leaves the most cleanup work for the kernel.
SECTIONS = ("size", "pool", "burst", "agent", "helper", "forwarding", "profile", "pods", "repair", "plugin")


def machine() -> dict[str, Any]:
    def first(path: str, key: str) -> str:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "unknown")

    return {"cores": os.cpu_count(), "kernel": platform.release(), "processor": first("/proc/cpuinfo", "model name"),
            "memory": first("/proc/meminfo", "MemTotal"), "load": [round(each, 2) for each in os.getloadavg()]}


def measure(bench: Bench, names: list[str]) -> list[tuple[str, Section]]:
    """Every section that could be measured; the others are listed in the bench's problems."""
    measured = []
    for name in names:
        try:
            measured.append((name, importlib.import_module(f"sections.{name}").measure(bench)))
        except Exception as error:  # noqa: BLE001  reported at the end; the next section goes on
            traceback.print_exc()
            bench.problems.append(f"{name}: {error}")
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section alone; can be repeated")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: making network namespaces needs root", file=sys.stderr)
        return 1
    if not paths.BINARY.exists():
        print(f"bench: {paths.BINARY} is missing: run `make build`", file=sys.stderr)
        return 1

    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    before = machine()
    bench = Bench(paths.BINARY.parent.parent / "bench")
    try:
        measured = measure(bench, options.only or list(SECTIONS))
    finally:
        bench.close()
    print(f"{date}, {before['cores']} cores, {before['processor']}, Linux {before['kernel']}, load before: "
          f"{before['load'][0]}\n")
    print_table([section for _, section in measured])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({
            "date": date, "machine": before, "load_after": machine()["load"], "problems": bench.problems,
            "sections": {name: section.as_json() for name, section in measured}}, indent=2) + "\n", encoding="utf-8")
        print(f"\nall figures: {options.json}")
    for problem in bench.problems:
        print(f"bench: not measured: {problem}", file=sys.stderr)
    return 1 if bench.problems else 0


if __name__ == "__main__":
    sys.exit(main())
