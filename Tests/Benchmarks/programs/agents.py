"""`agents.py FOLDER TEXT COUNT`: an API server's pod list, watch and proxy for COUNT agents, as cheaply as Python can.

Serves TLS with server.crt and server.key of FOLDER on a free port of 127.0.0.1. Every agent answers with the file TEXT, in which
`@ADDS@` stands for the number of its reads. Prints `ready PORT`, then answers each line of standard input with a line of counts,
as JSON. Exits when standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_POD = re.compile(r"/api/v1/namespaces/kube-system/pods/(aws-node-(\d+)):61678/proxy/metrics")
_PAGE = 500


def pod(number: int) -> dict[str, object]:
    """A pod of the DaemonSet, with as many fields besides those that are read as a real one has."""
    environment = [{"name": f"SOME_VARIABLE_{index}", "value": "a value of usual length"} for index in range(60)]
    fields = {f"f:field-{index}": {".": {}, "f:name": {}, "f:value": {}} for index in range(60)}
    return {"kind": "Pod", "metadata": {
        "name": f"aws-node-{number}", "namespace": "kube-system", "uid": f"00000000-0000-4000-8000-{number:012d}",
        "resourceVersion": str(number + 1), "labels": {"k8s-app": "aws-node", "controller-revision-hash": "5d8f7c9b6"},
        "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": fields}]},
        "spec": {"nodeName": f"ip-10-0-{number // 250}-{number % 250}.ec2.internal", "hostNetwork": True,
                 "containers": [{"name": "aws-node", "image": "image", "env": environment}]},
        "status": {"phase": "Running", "podIP": f"10.0.{number // 250}.{number % 250}"}}


class Player:
    def __init__(self, text: bytes, count: int) -> None:
        self.text = text
        self.pods = [json.dumps(pod(number)) for number in range(count)]
        self.readings: Counter[int] = Counter()
        self.sent = 0
        self.lists = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                if (found := _POD.fullmatch(target)) is not None:
                    self.readings[int(found[2])] += 1
                    body = self.text.replace(b"@ADDS@", str(self.readings[int(found[2])]).encode())
                    self.sent += len(body)
                    await self._answer(writer, body, "text/plain; version=0.0.4")
                elif "watch=true" in target:
                    return await self._watch(reader, writer)
                else:
                    await self._answer(writer, self._page(target), "application/json")
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    def _page(self, target: str) -> bytes:
        self.lists += 1
        query = parse_qs(urlsplit(target).query)
        size, start = int(query.get("limit", [_PAGE])[0]), int(query.get("continue", ["0"])[0])
        more = f'"continue":"{start + size}",' if start + size < len(self.pods) else ""
        items = ",".join(self.pods[start:start + size])
        return f'{{"kind":"PodList","metadata":{{{more}"resourceVersion":"1"}},"items":[{items}]}}'.encode()

    @staticmethod
    async def _answer(writer: asyncio.StreamWriter, body: bytes, kind: str) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    @staticmethod
    async def _watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The pods never change; the stream ends when its client disconnects."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        await writer.drain()
        await reader.read()


async def main(folder: Path, text: Path, count: int) -> None:
    player = Player(text.read_bytes(), count)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server = await asyncio.start_server(player.serve, "127.0.0.1", 0, ssl=context, backlog=512)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        least = min(player.readings[number] for number in range(count))
        print(json.dumps({"least": least, "most": max(player.readings.values(), default=0), "bytes": player.sent,
                          "pages": player.lists}), flush=True)


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
