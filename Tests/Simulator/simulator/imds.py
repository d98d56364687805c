"""The instance metadata service: one listener for all instances. It identifies a caller by its source address."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from .counts import CallCounts
from .faults import FaultTable
from .gate import faulty_reply
from .http_listener import Reply, Request
from .imds_tree import Tree, look_up
from .instance import Instance

_TTL_HEADER = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
_TOKEN_HEADER = "X-Aws-Ec2-Metadata-Token"
_LONGEST_TTL = 21600


class MetadataService:
    """`tree` returns the instance with a source address and its metadata tree; None for an unknown address."""

    def __init__(self, tree: Callable[[str], tuple[Instance, Tree] | None], faults: FaultTable) -> None:
        self._tree = tree
        self._faults = faults
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[str, float]] = {}
        self.counts = CallCounts()

    def respond(self, request: Request) -> Reply:
        path = request.target.partition("?")[0]
        found = self._tree(request.peer)
        if found is None:
            return _page(404, "Not Found")
        instance, tree = found
        reply = self._answer(request, path, instance, tree)
        with self._faults.met(f"imds:{path}", instance.name) as fault:
            if fault is not None:
                if fault.delay:
                    time.sleep(fault.delay)
                if not fault.only_delay:
                    reply = faulty_reply(fault, fault.message)
        self.counts.add(path, instance.name, "successful" if reply.status < 400 else "failed",
                        str(reply.status) if reply.status >= 400 else None)
        return reply

    def forget_tokens(self) -> None:
        """Invalidates every issued token, as a restart of the service does."""
        with self._lock:
            self._tokens.clear()

    def _answer(self, request: Request, path: str, instance: Instance, tree: Tree) -> Reply:
        if request.method == "PUT":
            return self._issue(request, path, instance)
        if request.method not in ("GET", "HEAD"):
            return _page(405, "Method Not Allowed")
        token = request.headers.get(_TOKEN_HEADER)
        if token is None:
            if instance.imds_tokens_required:
                return _page(401, "Unauthorized")
        elif not self._is_valid(token, instance):
            return _page(401, "Unauthorized")
        if path.strip("/") == "":
            return Reply(200, {"Content-Type": "text/plain"}, b"latest")
        if not path.startswith("/latest"):
            return _page(404, "Not Found")
        text = look_up(tree, path.removeprefix("/latest"))
        if text is None:
            return _page(404, "Not Found")
        return Reply(200, {"Content-Type": "text/plain", "Accept-Ranges": "none"}, text.encode())

    def _issue(self, request: Request, path: str, instance: Instance) -> Reply:
        if path != "/latest/api/token":
            return _page(405, "Method Not Allowed")
        if request.headers.get("X-Forwarded-For") is not None:
            return _page(403, "Forbidden")
        try:
            ttl = int(request.headers.get(_TTL_HEADER, ""))
        except ValueError:
            ttl = 0
        if not 1 <= ttl <= _LONGEST_TTL:
            return _page(400, "Bad Request")
        token = secrets.token_urlsafe(40) + "=="
        now = time.monotonic()
        with self._lock:
            if len(self._tokens) > 10000:
                self._tokens = {each: held for each, held in self._tokens.items() if held[1] > now}
            self._tokens[token] = (instance.instance_id, now + ttl)
        return Reply(200, {"Content-Type": "text/plain", _TTL_HEADER: str(ttl)}, token.encode(),
                     hop_limit=instance.imds_hop_limit)

    def _is_valid(self, token: str, instance: Instance) -> bool:
        with self._lock:
            held = self._tokens.get(token)
        return held is not None and held[0] == instance.instance_id and held[1] > time.monotonic()


def _page(status: int, reason: str) -> Reply:
    body = ('<?xml version="1.0" encoding="iso-8859-1"?>\n'
            '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"\n'
            '         "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
            '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
            f" <head>\n  <title>{status} - {reason}</title>\n </head>\n"
            f" <body>\n  <h1>{status} - {reason}</h1>\n </body>\n</html>\n")
    return Reply(status, {"Content-Type": "text/html"}, body.encode())
