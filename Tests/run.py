#!/usr/bin/env python3
"""Runs every tier of tests: `make test`. Prints where the time went.

    run.py --build DIR [--workers N] [--only TIER[,TIER…]]

Lanes run beside each other: the end-to-end tests, most of which wait, so several run at once; the build of the Swift suites,
and then these; the tiers that need no build; and other kernels in VMs, which take what processor time the others leave: in
one lane the end-to-end tests, in another, once they are built, the Swift suites. Tests marked `timed` judge elapsed time:
they run alone at the end.
A failed tier prints the end of its output; the whole output of each is in DIR/test-logs. The last lines name every test that
failed and why, so that the tail of a log is enough.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWN_LINES = 120
SLOWEST = 20
# The build gives way to the end-to-end tests, which have deadlines, but must end before them.
BUILD_NICENESS = 5
VM_NICENESS = 15
# Of a failed test's message: enough for the cause; the tier's log has the whole.
MESSAGE_LENGTH = 600


def has_failed(case: ET.Element) -> bool:
    """Whether a test case of a JUnit report failed, in its call or in a fixture."""
    return case.find("failure") is not None or case.find("error") is not None


def message(case: ET.Element) -> str:
    """What a failed test case of a JUnit report says about its first failure, shortened."""
    found = next(child for child in case if child.tag in ("failure", "error"))
    text = found.get("message") or (found.text or "").strip()
    return text if len(text) <= MESSAGE_LENGTH else text[:MESSAGE_LENGTH] + " […]"


@dataclass
class Tier:
    name: str
    command: list[str]
    # Where the tier writes its results as JUnit XML; swift test adds a suffix of its own.
    reports: list[Path]
    # Whether it runs what the tier `build` made, in another lane.
    needs_build: bool = False
    seconds: float = 0.0
    status: int | None = None
    process: subprocess.Popen[bytes] | None = None
    tests: list[tuple[str, float]] = field(default_factory=list)
    # The failed tests' names and messages.
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: int = 0

    def run(self, logs: Path) -> None:
        for report in self.reports:
            report.unlink(missing_ok=True)
        log = logs / f"{self.name}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            self.status = self.process.wait()
        self.seconds = time.monotonic() - began
        for report in self.reports:
            if report.exists():
                self.read(report)
        # A tier without a test: pytest says 5.
        outcome = "passed" if self.status == 0 else "had nothing to run" if self.status == 5 else "FAILED"
        counts = f": {len(self.tests)} tests, {len(self.failed)} failed, {self.skipped} skipped" if self.reports else ""
        print(f"{self.name} {outcome} in {self.seconds:.0f} s{counts}", flush=True)
        if self.status not in (0, 5):
            lines = log.read_text(errors="replace").splitlines()
            print("\n".join(lines[-SHOWN_LINES:]), flush=True)
            if not self.failed:  # it crashed, or was ended
                self.failed.append((f"ended with {self.status}", " | ".join(lines[-8:])))

    def stop(self) -> None:
        """Ends it as Ctrl-C does, so that it removes what it made."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)

    def read(self, report: Path) -> None:
        for case in ET.parse(report).getroot().iter("testcase"):
            name = f"{case.get('classname', '')}.{case.get('name', '')}"
            self.tests.append((name, float(case.get("time") or 0)))
            if has_failed(case):
                self.failed.append((name, message(case)))
            self.skipped += case.find("skipped") is not None


def tiers(build: Path, workers: int) -> tuple[list[list[Tier]], list[Tier]]:
    """The lanes that run beside each other, and what runs alone after them."""
    reports = build / "test-reports"
    reports.mkdir(parents=True, exist_ok=True)
    logs = build / "test-logs"
    logs.mkdir(parents=True, exist_ok=True)

    def swift(name: str, *choice: str) -> Tier:
        report = reports / f"{name}.xml"
        return Tier(name, ["swift", "test", "--scratch-path", str(build), "--skip-build", "--xunit-output", str(report), *choice],
                    [report, report.with_name(f"{name}-swift-testing.xml")])

    def pytest(name: str, *choice: str) -> Tier:
        report = reports / f"{name}.xml"
        return Tier(name, [sys.executable, "-m", "pytest", "-q", "-ra", f"--junitxml={report}", *choice], [report])

    waiting = [pytest("e2e", "-n", str(workers), "--dist", "worksteal", "-m", "not timed", "Tests/EndToEnd")]
    built = [
        Tier("build", ["nice", "-n", str(BUILD_NICENESS), "make", "build-tests", f"BUILD={build}"], []),
        swift("unit", "--skip", "KernelTests|ModelTests"), swift("kernel", "--filter", "KernelTests"), swift("model", "--filter", "ModelTests"),
    ]
    unbuilt = [pytest("manifest", "Tests/Manifests"), pytest("simulator", "Tests/Simulator/tests")]
    vm = ["env", f"VPC_CNI_BUILD={build}", "nice", "-n", str(VM_NICENESS), "Tests/VM/run"]
    kernels = [Tier("vm-e2e", [*vm, "--end-to-end", "--short"], [])]
    kernels_built = [Tier("vm-suites", [*vm, "--suites", "--short"], [], needs_build=True)]
    return [waiting, built, unbuilt, kernels, kernels_built], [pytest("e2e-timed", "-m", "timed", "Tests/EndToEnd")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / ".build")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--only", default="", help="tiers by name, separated by commas")
    options = parser.parse_args()
    chosen = set(filter(None, options.only.split(",")))
    if chosen & {"unit", "kernel", "model", "vm-suites"}:
        chosen.add("build")
    # A shell that starts a job in the background has it ignore SIGINT, and pytest would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def choose(lane: list[Tier]) -> list[Tier]:
        return [tier for tier in lane if not chosen or tier.name in chosen]

    beside, alone = tiers(options.build, options.workers)
    lanes = [choose(lane) for lane in beside]
    began = time.monotonic()
    built = threading.Event()

    def run(lane: list[Tier]) -> None:
        for tier in lane:
            if tier.needs_build:
                built.wait()
                if build_failed():
                    return
            tier.run(options.build / "test-logs")
            if tier.name == "build":
                built.set()
                if build_failed():
                    for other in lanes[0] + lanes[3]:
                        other.stop()
                    return

    def build_failed() -> bool:
        return any(tier.name == "build" and tier.status != 0 for lane in lanes for tier in lane)

    threads = [threading.Thread(target=run, args=[lane]) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lanes.append(choose(alone))
    if not build_failed():
        run(lanes[-1])
    return summary([tier for lane in lanes for tier in lane], time.monotonic() - began)


def summary(done: list[Tier], seconds: float) -> int:
    print(f"\n{'tier':12} {'seconds':>8} {'tests':>6} {'failed':>7} {'skipped':>8}")
    for tier in done:
        if tier.status is None:
            continue
        print(f"{tier.name:12} {tier.seconds:8.0f} {len(tier.tests):6} {len(tier.failed):7} {tier.skipped:8}")
    print(f"{'all':12} {seconds:8.0f} {sum(len(tier.tests) for tier in done):6}\n\nthe slowest {SLOWEST}:")
    # swift test counts the time that a test waits for its turn.
    timed = [tier for tier in done if tier.command[0] != "swift"]
    slowest = sorted(((took, name, tier.name) for tier in timed for name, took in tier.tests), reverse=True)[:SLOWEST]
    for took, name, tier in slowest:
        print(f"{took:8.1f} s  {tier:10} {name}")
    bad = [tier.name for tier in done if tier.status not in (0, 5, None)]
    if bad:
        print(f"\nfailed: {', '.join(bad)}")
        for tier in done:
            for name, text in tier.failed:
                print(f"  {tier.name}: {name}: {' '.join(text.split())}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
