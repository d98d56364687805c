"""A TCP connection between two pods that is always in use, like an application that must not notice any change."""

from __future__ import annotations

import subprocess
import sys

from .pod import Pod

from simulator.patience import patient

_SERVER = """
import socket
server = socket.create_server(("", PORT))
print("listening", flush=True)
peer = server.accept()[0]
while data := peer.recv(4096):
    peer.sendall(data)
"""

# Sends one line each hundredth of a second, and the next only after its echo; ends with its standard input.
_CLIENT = """
import select, socket, sys
peer = socket.create_connection(("ADDRESS", PORT), 5)
peer.settimeout(10)
lines = 0
while not select.select([sys.stdin], [], [], 0.01)[0]:
    text = f"{lines:08d}"
    peer.sendall(text.encode())
    back = b""
    while len(back) < len(text):
        part = peer.recv(64)
        if not part:
            raise SystemExit("the other end closed")
        back += part
    assert back.decode() == text, back
    lines += 1
    if lines == 1:
        print("begun", flush=True)
print(lines, flush=True)
"""


class Connection:
    """The connection opens at once; `end` returns the number of echoes, and raises if the connection broke."""

    def __init__(self, client: Pod, server: Pod, port: int = 7000) -> None:
        self._server = self._start(server, _SERVER.replace("PORT", str(port)))
        assert self._server.stdout and self._server.stdout.readline() == "listening\n"
        self._client = self._start(client, _CLIENT.replace("PORT", str(port)).replace("ADDRESS", server.address))
        assert self._client.stdout and self._client.stdout.readline() == "begun\n"

    def end(self) -> int:
        out, err = self._client.communicate(input="", timeout=patient(30))
        self.stop()
        if self._client.returncode != 0:
            raise RuntimeError(f"the connection broke: {err}")
        return int(out)

    def stop(self) -> None:
        for process in (self._client, self._server):
            if process.poll() is None:
                process.kill()
            if process.stdin and not process.stdin.closed:
                process.communicate()

    @staticmethod
    def _start(pod: Pod, script: str) -> subprocess.Popen[str]:
        return pod.instance.popen(["nsenter", f"--net={pod.netns}", sys.executable, "-c", script], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
