"""`make demo`, with and without KEEP=1, and the other commands that README.md names."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import paths
from simulator import registry
from simulator.cleanup import remove

DEMO = Path(__file__).with_name("demo.py")


def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=180, **options)  # type: ignore[call-overload]


@pytest.fixture
def name() -> Iterator[str]:
    name = f"demo-{uuid.uuid4().hex[:8]}"
    yield name
    remove(name)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_demo_leaves_nothing(name: str, family: str) -> None:
    done = run(sys.executable, str(DEMO), f"--name={name}", f"--family={family}")
    assert done.returncode == 0 and "demo: all held" in done.stdout, done.stdout + done.stderr
    assert "Look around" not in done.stdout and not registry.home(name).exists()


def test_a_kept_demo_stays_until_it_is_ended(name: str) -> None:
    """The process that made the demo has ended: agents serve, pods talk, and every printed command works."""
    done = run(sys.executable, str(DEMO), "--keep", f"--name={name}")
    assert done.returncode == 0 and "demo: all held" in done.stdout, done.stdout + done.stderr
    printed = done.stdout.rpartition("Look around:\n")[2]
    commands = [line.split("  #")[0].strip() for line in printed.splitlines()]
    assert len(commands) == 7 and commands[-1].endswith(f"--name {name} down"), printed
    for command in commands[:-1]:
        # A shell ends at the end of its input.
        done = run("sh", "-c", command, stdin=subprocess.DEVNULL)
        # doctor also checks the machine, which the node shares and which may be too busy for its IMDS.
        assert done.returncode in ((0, 1, 2) if command.endswith("doctor") else (0,)), (command, done)
    status = run("sh", "-c", commands[1]).stdout
    assert "addresses  13 used" in status and "POD " in status, status

    again = run(sys.executable, str(DEMO), f"--name={name}")
    assert again.returncode == 1 and "still up" in again.stderr and commands[-1] in again.stderr
    assert run("sh", "-c", commands[1]).returncode == 0, "a second demo does not take the first one down"

    assert run("sh", "-c", commands[-1]).returncode == 0
    assert not registry.home(name).exists()
    left = run("pgrep", "-f", f"vpcsim/{name}/|--name {name}").stdout
    assert left == "", "no process of it is left"


def test_the_makefile_has_what_the_readme_names() -> None:
    text = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    commands = sorted(set(re.findall(r"(?:^|`)(make [a-z][a-zA-Z0-9 =-]*?)(?:`|\s{2,}|$)", text, re.MULTILINE)))
    assert {"make demo", "make demo KEEP=1", "make demo-down", "make test", "make help"} <= set(commands), commands
    for command in commands:
        # What the command would run: make reads the targets and their variables, and runs nothing.
        planned = run(*command.split(), "--dry-run", cwd=paths.ROOT)
        assert planned.returncode == 0, (command, planned.stderr)
    assert "demo.py --keep" in run("make", "--dry-run", "demo", "KEEP=1", cwd=paths.ROOT).stdout
    assert "--name demo down" in run("make", "--dry-run", "demo-down", cwd=paths.ROOT).stdout
