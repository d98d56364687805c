"""`python -m kubeapi --folder DIR [--address A] [--port P] [--plain] [--http1] [--client-certificates]`

Prints `ready PORT` to standard output, then reads one JSON command per line from standard input and answers each with one line:
`{"ok": …}` or `{"error": "…"}`. Exits when standard input closes. The commands are the methods of `Control`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import socket
import ssl
import sys
import warnings
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from . import certificates
from .app import API, Settings
from .store import KINDS, APIError


class Server:
    """The listener. It can be stopped and started again on the same port."""

    def __init__(self, api: API, options: argparse.Namespace) -> None:
        self.api, self._options = api, options
        self.port: int = options.port
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def up(self) -> int:
        if self._task is not None:
            return self.port
        listener = socket.create_server((self._options.address, self.port), reuse_port=False, backlog=1024,
                                        family=socket.AF_INET6 if ":" in self._options.address else socket.AF_INET)
        self.port = listener.getsockname()[1]
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.graceful_timeout, config.shutdown_timeout, config.loglevel = 0.05, 0.2, "CRITICAL"
        config.accesslog = config.errorlog = None
        config.h2_max_concurrent_streams = 250  # the real server's
        # The real server's. By default an idle connection ends after 5 s, under a client that is about to use it.
        config.keep_alive_timeout = 90
        config.include_server_header = False
        if not self._options.plain:
            folder: Path = self._options.folder
            config.certfile, config.keyfile = str(folder / "server.crt"), str(folder / "server.key")
            config.alpn_protocols = ["http/1.1"] if self._options.http1 else ["h2", "http/1.1"]
            if self._options.client_certificates:
                config.ca_certs, config.verify_mode = str(folder / "ca.crt"), ssl.CERT_REQUIRED
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(serve(self.api, config, shutdown_trigger=self._stop.wait))
        return self.port

    async def down(self) -> None:
        if self._task is None:
            return
        task, self._task = self._task, None
        self._stop.set()
        await asyncio.wait([task], timeout=5)
        if task.done():
            task.exception()  # retrieves the errors of broken connections, so that asyncio does not log them

    def restart_soon(self) -> None:
        async def restart() -> None:
            await self.down()
            await self.up()

        self._restart = asyncio.create_task(restart())


class Control:
    """The commands of a test; each one is a method."""

    def __init__(self, api: API, server: Server) -> None:
        self._api, self._server = api, server
        self._floods: list[asyncio.Task[int]] = []

    async def put(self, plural: str, objects: list[dict[str, Any]]) -> int:
        """Creates or replaces objects; returns the version of the last one."""
        for item in objects:
            self._api.store.put(KINDS[plural], item["metadata"].get("namespace", "default"), item)
        return self._api.store.version

    async def patch(self, plural: str, name: str, patch: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
        return self._api.store.patch(KINDS[plural], namespace, name, patch)

    async def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        self._api.store.delete(KINDS[plural], namespace, name)

    async def get(self, plural: str, name: str, namespace: str = "default") -> dict[str, Any] | None:
        try:
            return self._api.store.get(KINDS[plural], namespace, name)
        except APIError:
            return None

    async def list(self, plural: str) -> list[dict[str, Any]]:
        return self._api.store.list(KINDS[plural], None, lambda _: True)

    async def requests(self, clear: bool = False) -> list[dict[str, Any]]:
        """The requests since the last clear, in order."""
        seen = [dataclasses.asdict(each) for each in self._api.seen]
        if clear:
            self._api.seen.clear()
        return seen

    async def watches(self) -> int:
        """The number of open watch streams."""
        return self._api.watches

    async def fault(self, **fields: Any) -> None:
        self._api.faults.add(fields)

    async def clear_faults(self) -> None:
        self._api.faults.clear()

    async def pod_answers(self, pattern: str, **answer: Any) -> None:
        """Sets pods' proxied answers: `pattern` matches POD:PORT/PATH; `text` may hold {pod}; also status, delay, type."""
        self._api.pods[pattern] = answer

    async def tokens(self, *, accept: list[str]) -> None:
        """Accepts only these tokens from now on; an empty list accepts every request."""
        self._api.settings.tokens = set(accept)

    async def bookmarks(self, seconds: float) -> None:
        self._api.settings.bookmark_seconds = seconds

    async def compact(self) -> None:
        self._api.store.compact()

    async def end_watches(self) -> None:
        self._api.end_streams()

    async def down(self) -> None:
        """Behaves like a killed process: the port refuses connections, open connections break. Objects stay."""
        await self._server.down()

    async def up(self) -> int:
        return await self._server.up()

    async def flood(self, plural: str, name: str, rate: int, seconds: float, namespace: str = "default") -> None:
        """Changes an object's label `flood` at this rate, concurrently with everything else."""
        self._floods.append(asyncio.create_task(self._change(plural, name, namespace, rate, seconds)))

    async def flooded(self) -> int:
        """Waits for the end of every flood; returns how many changes were made."""
        floods, self._floods = self._floods, []
        return sum(await asyncio.gather(*floods))

    async def _change(self, plural: str, name: str, namespace: str, rate: int, seconds: float) -> int:
        loop, made = asyncio.get_running_loop(), 0
        began = loop.time()
        while (elapsed := loop.time() - began) < seconds:
            while made < elapsed * rate:
                made += 1
                self._api.store.patch(KINDS[plural], namespace, name, {"metadata": {"labels": {"flood": str(made)}}})
            await asyncio.sleep(0.002)  # pause between looks at the clock
        return made


async def run(options: argparse.Namespace) -> None:
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / "ca.crt").exists():
        own = {"127.0.0.1", "::1", options.address} - {"0.0.0.0", "::"}
        certificates.make(options.folder, sorted(own))
    api = API(Settings(history=options.history))
    server = Server(api, options)
    control = Control(api, server)
    api.break_connections = server.restart_soon
    # Broken connections are normal here: this program breaks them on purpose.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    warnings.simplefilter("ignore", RuntimeWarning)
    print(f"ready {await server.up()}", flush=True)
    reader = asyncio.StreamReader(limit=64 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            command = json.loads(line)
            name = command.pop("do")
            if name.startswith("_"):
                raise ValueError(f"no command {name}")
            answer = {"ok": await getattr(control, name)(**command)}
        except Exception as error:  # reported to the test
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    await server.down()


def main() -> None:
    parser = argparse.ArgumentParser(prog="kubeapi")
    parser.add_argument("--folder", type=Path, required=True, help="certificates stand here; made where they are missing")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="no TLS")
    parser.add_argument("--http1", action="store_true", help="no HTTP/2")
    parser.add_argument("--client-certificates", action="store_true", help="only clients with a certificate of this authority")
    parser.add_argument("--history", type=int, default=2000, help="changes that watches can be served from")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
