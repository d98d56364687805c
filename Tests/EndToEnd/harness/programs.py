"""The harness's own C programs and libraries (`programs/`), compiled on first use."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

from . import paths

SOURCES = Path(__file__).resolve().parent.parent / "programs"
BUILT = paths.BINARY.parent.parent / "e2e"


def program(name: str) -> str:
    """The path of a program. Raises RuntimeError with the compiler's output."""
    return _compiled(name, BUILT / name, [])


def library(name: str) -> str:
    """The path of a library that programs preload. Raises RuntimeError with the compiler's output."""
    return _compiled(name, BUILT / f"{name}.so", ["-shared", "-fPIC"])


def _compiled(name: str, made: Path, options: list[str]) -> str:
    source = SOURCES / f"{name}.c"
    if not made.exists() or made.stat().st_mtime <= source.stat().st_mtime:
        compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise RuntimeError("no C compiler: install gcc")
        made.parent.mkdir(parents=True, exist_ok=True)
        # Many threads make nodes at once: each thread compiles its own copy, and the last copy stays.
        part = f"{made}.{os.getpid()}.{threading.get_ident()}"
        done = subprocess.run([compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", *options, "-o", part, str(source)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"compile {source.name}: {done.stderr}")
        os.rename(part, made)
    return str(made)
