#!/usr/bin/env python3
"""Runs the end-to-end tests again and again under load, in another order each time: `make soak RUNS=5`.

    soak.py --build DIR [--runs N] [--workers N] [--busy N] [PYTEST_OPTION…]

Busy loops take the processors from the tests; what judges elapsed time (`timed`) is left out. At the end every test that
failed in any run is listed, with the seed of its order; the whole output of each run is in DIR/soak.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

from run import ROOT, has_failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / ".build")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--busy", type=int, default=2)
    options, others = parser.parse_known_args()
    folder = options.build / "soak"
    folder.mkdir(parents=True, exist_ok=True)
    failures: dict[str, list[int]] = defaultdict(list)
    bad = 0
    environment = {"VPC_CNI_PATIENCE": "2", **os.environ}
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        for number in range(1, options.runs + 1):
            began = time.monotonic()
            report = folder / f"{number}.xml"
            report.unlink(missing_ok=True)
            with (folder / f"{number}.log").open("wb") as output:
                status = subprocess.run(
                    [sys.executable, "-m", "pytest", "-q", "-n", str(options.workers), "--dist", "worksteal", f"--junitxml={report}",
                     "-m", "not timed", "Tests/EndToEnd", *others],
                    cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False, env=environment | {"VPC_CNI_ORDER": str(number)}).returncode
            cases = list(ET.parse(report).getroot().iter("testcase")) if report.exists() else []
            failed = [f"{case.get('classname')}::{case.get('name')}" for case in cases if has_failed(case)]
            for test in failed:
                failures[test].append(number)
            bad += status not in (0, 1) or not cases
            print(f"run {number}: {len(failed)} of {len(cases)} failed, {time.monotonic() - began:.0f} s (pytest ended with {status})", flush=True)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    for test, runs in sorted(failures.items(), key=lambda entry: -len(entry[1])):
        print(f"{len(runs)} of {options.runs}  {test}  (order {', '.join(map(str, runs))})")
    return 1 if failures or bad else 0


if __name__ == "__main__":
    sys.exit(main())
