"""The benchmark's own C programs, compiled on first use and again when their source is newer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from harness import paths

INSTALL_PIECE = 2 << 20  # the size of FileInstallation's pieces
SOURCES = Path(__file__).resolve().parent.parent / "programs"


class Programs:
    """Programs built in `folder`, which is created."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._installed: set[Path] = set()

    def plugin(self) -> str:
        """The binary under the plugin's name, on the machine's disk as on a node, written as the init step writes it.

        The rig's /opt is on tmpfs, in memory, where the page faults of a program's start cost over 1 ms more. A file that a
        linker wrote in small pieces is also in small pieces of memory: it starts 0.4 ms slower than a copy.
        """
        plugin = self.folder / paths.PLUGIN.rpartition("/")[2]
        if plugin not in self._installed:
            self.folder.mkdir(parents=True, exist_ok=True)
            plugin.unlink(missing_ok=True)
            with paths.BINARY.open("rb") as source, plugin.open("wb", buffering=0) as target:
                while piece := source.read(INSTALL_PIECE):
                    target.write(piece)
                os.fsync(target.fileno())
            plugin.chmod(0o755)
            self._installed.add(plugin)
        return str(plugin)

    def path(self, name: str) -> str:
        """The program `name`. Raises RuntimeError with the compiler's output."""
        source, built = SOURCES / f"{name}.c", self.folder / name
        if not built.exists() or built.stat().st_mtime <= source.stat().st_mtime:
            compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
            if compiler is None:
                raise RuntimeError("no C compiler: install gcc")
            self.folder.mkdir(parents=True, exist_ok=True)
            words = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-o", f"{built}.new", str(source)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"compile {source.name}: {done.stderr}")
            os.rename(f"{built}.new", built)
        return str(built)
