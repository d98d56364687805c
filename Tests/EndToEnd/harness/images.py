"""Container images made here from a few files, without a registry or a build tool.

An image is an OCI layout with one layer in a tar file, which `ctr images import` accepts.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass
class Image:
    """`files` maps a path in the image to a file of this machine or to bytes; `links` maps a path to a symbolic link's target.

    A file is executable if the machine's file is; bytes are executable if they begin with `#!`. Folders are implicit.
    """

    reference: str
    files: dict[str, Path | bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    working_dir: str = "/"

    def write(self, path: Path) -> Path:
        """Writes the tar file. The same image always gives the same bytes."""
        layer = self._layer()
        blobs: dict[str, bytes] = {}

        def blob(kind: str, content: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            blobs[f"blobs/sha256/{digest}"] = content
            return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

        layer_entry = blob("layer.v1.tar", layer)
        config = blob("config.v1+json", _json({
            "architecture": _ARCHITECTURE.get(platform.machine(), platform.machine()), "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "WorkingDir": self.working_dir,
                       "Env": [f"{key}={value}" for key, value in self.environment.items()]},
            "rootfs": {"type": "layers", "diff_ids": [layer_entry["digest"]]}}))
        manifest = blob("manifest.v1+json", _json({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
            "layers": [layer_entry]}))
        manifest["annotations"] = {"io.containerd.image.name": self.reference}
        with tarfile.open(path, "w") as tar:
            _file(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
            _file(tar, "index.json", _json({"schemaVersion": 2, "manifests": [manifest]}), 0o644)
            for name, content in blobs.items():
                _file(tar, name, content, 0o644)
        return path

    def _layer(self) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            made: set[str] = set()
            for name in [*self.files, *self.links, *(f"{folder}/in-it" for folder in self.folders)]:
                for parent in reversed(Path(name.lstrip("/")).parents):
                    if str(parent) not in (".", *made):
                        made.add(str(parent))
                        tar.addfile(_info(str(parent), tarfile.DIRTYPE, 0o1777 if str(parent) == "tmp" else 0o755))
            for name, source in self.files.items():
                content = source if isinstance(source, bytes) else source.read_bytes()
                runs = content.startswith(b"#!") if isinstance(source, bytes) else os.access(source, os.X_OK)
                _file(tar, name.lstrip("/"), content, 0o755 if runs else 0o644)
            for name, target in self.links.items():
                link = _info(name.lstrip("/"), tarfile.SYMTYPE, 0o777)
                link.linkname = target
                tar.addfile(link)
        return out.getvalue()


def pause(reference: str) -> Image:
    """The process that holds a sandbox: it waits until it is killed."""
    return Image(reference, files={"/bin/busybox": BUSYBOX}, entrypoint=["/bin/busybox", "sleep", "2147483647"])


def busybox(reference: str) -> Image:
    """A small system with a shell, ping, nc and ip."""
    tools = ("sh", "sleep", "cat", "echo", "ls", "ip", "ping", "nc", "wget", "httpd", "env", "id", "mount", "hostname", "true")
    return Image(
        reference, files={"/bin/busybox": BUSYBOX}, links={f"/bin/{tool}": "busybox" for tool in tools},
        folders=["/tmp", "/etc", "/proc", "/sys", "/dev"], entrypoint=["/bin/sh"], environment={"PATH": "/bin"})


def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, 0
    return info


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = _info(name, tarfile.REGTYPE, mode)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
