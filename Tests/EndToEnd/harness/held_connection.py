"""A TCP connection of a pod to an outside server that stays open, and is used whenever a test asks."""

from __future__ import annotations

from .pod import Pod


class HeldConnection:
    """Opens at once, to the echo port of a server that first sends the source address it sees."""

    _PROGRAM = ("import socket,sys\nc=socket.create_connection((sys.argv[1],7),5); c.settimeout(5); f=c.makefile('rwb')\n"
                "print(f.readline().split()[0].decode(), flush=True)\n"
                "for line in sys.stdin.buffer: f.write(line); f.flush(); print(f.readline().decode().strip(), flush=True)\n")

    def __init__(self, pod: Pod, server: str) -> None:
        self._process = pod.instance.popen(["nsenter", f"--net={pod.netns}", "timeout", "120", "python3", "-c", self._PROGRAM, server],
                                           stdin=-1, stdout=-1)
        self.seen_as = self._process.stdout.readline().decode().strip()

    def answers(self) -> bool:
        try:
            self._process.stdin.write(b"still there\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return self._process.stdout.readline() == b"still there\n"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
