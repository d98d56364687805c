"""The API as an ASGI application: it parses, authorizes and answers requests. hypercorn handles HTTP/1.1, HTTP/2 and TLS."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from .faults import Fault, Faults
from .selectors import BadSelector, Selector
from .store import KINDS, APIError, Kind, Object, Store

_PATH = re.compile(r"(/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/(proxy|status)(/.*)?)?")
_LIMIT = 4 << 20
Send = Callable[[Any], Awaitable[None]]


@dataclass
class Seen:
    """One request, recorded for the test."""

    verb: str
    plural: str
    namespace: str | None
    name: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str
    version: str  # HTTP version
    status: int = 0


@dataclass
class Settings:
    """Settings that a test can change while the server runs."""

    tokens: set[str] = field(default_factory=set)  # empty: every request is accepted
    bookmark_seconds: float = 60.0
    history: int = 2000


class Broken(Exception):
    """Breaks off an answer in the middle. Over HTTP/2, hypercorn only leaves the stream open: see API.break_connections."""


class API:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.history)
        self.faults = Faults()
        self.seen: deque[Seen] = deque(maxlen=100_000)
        self.pods: dict[str, dict[str, Any]] = {}  # pattern of POD:PORT/PATH to the proxy's answer
        self.watches = 0
        self.break_connections: Callable[[], None] = lambda: None
        self._streams: set[asyncio.Event] = set()

    def end_streams(self) -> None:
        """Ends every watch normally, as a server does when it shuts down."""
        for stream in self._streams:
            stream.set()

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": message["type"] + ".complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if len(body) > _LIMIT or not message.get("more_body"):
                break
        seen, match = self._read(scope, body)
        self.seen.append(seen)
        try:
            await self._answer(seen, match, body, receive, send)
        except APIError as error:
            seen.status = error.code
            headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
            await _reply(send, error.code, error.status(), headers)
        except BadSelector as error:
            seen.status = 400
            await _reply(send, 400, APIError(400, "BadRequest", str(error)).status())

    def _read(self, scope: dict[str, Any], body: bytes) -> tuple[Seen, re.Match[str] | None]:
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = unquote(scope["path"])
        match = _PATH.fullmatch(path)
        plural, name, namespace, verb = "", path, None, scope["method"].lower()
        if match is not None:
            namespace, plural, name = match[2], match[3], match[4] or ""
            is_watch = query.get("watch", "") in ("true", "1")
            verbs = {"GET": "get" if name else "watch" if is_watch else "list", "POST": "create", "PATCH": "patch",
                     "PUT": "update", "DELETE": "delete"}
            verb = "proxy" if match[5] == "proxy" else verbs.get(scope["method"], verb)
        return Seen(verb, plural, namespace, name, query, headers, body.decode(errors="replace"),
                    scope.get("http_version", "")), match

    async def _answer(self, seen: Seen, match: re.Match[str] | None, body: bytes,
                      receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        fault = self.faults.take(seen.verb, seen.plural, seen.name)
        if fault is not None:
            await self._fail(fault, receive)
            if fault.status and fault.text is not None:
                seen.status = fault.status
                return await _reply(send, fault.status, fault.text)
            if fault.status:
                raise APIError(fault.status, fault.reason or "Fault", "a fault of the test", fault.retry_after)
        if self.settings.tokens:
            scheme, _, token = seen.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or token not in self.settings.tokens:
                raise APIError(401, "Unauthorized", "Unauthorized")
        if match is None:
            if seen.name in ("/livez", "/readyz", "/healthz", "/version"):
                seen.status = 200
                text: Any = {"major": "1", "minor": "33", "gitVersion": "v1.33.0"} if seen.name == "/version" else "ok"
                return await _reply(send, 200, text)
            raise APIError(404, "NotFound", "the server could not find the requested resource")
        kind = KINDS.get(seen.plural)
        if kind is None or kind.root != match[1]:
            raise APIError(404, "NotFound", "the server could not find the requested resource")
        if seen.verb == "proxy":
            return await self._proxy(seen, match[6] or "/", send)
        if seen.verb == "watch":
            return await self._watch(kind, seen, fault, receive, send)
        status, answer = self._do(kind, seen, body)
        seen.status = status
        if "as=PartialObjectMetadata" in seen.headers.get("accept", ""):
            answer = _metadata_list(answer) if "items" in answer else _metadata(answer)
        await _reply(send, status, answer)

    async def _fail(self, fault: Fault, receive: Callable[[], Awaitable[Any]]) -> None:
        if fault.stall:
            while (await receive())["type"] != "http.disconnect":
                pass
            raise Broken
        if fault.delay:
            await asyncio.sleep(fault.delay)

    # MARK: verbs

    def _do(self, kind: Kind, seen: Seen, body: bytes) -> tuple[int, Object]:
        namespace = seen.namespace or ""
        if seen.verb == "get":
            return 200, self.store.get(kind, namespace, seen.name)
        if seen.verb == "list":
            return 200, self._list(kind, seen)
        if seen.verb == "delete":
            return 200, self.store.delete(kind, namespace, seen.name)
        if seen.verb not in ("create", "patch"):
            raise APIError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        try:
            item = json.loads(body)
        except ValueError as error:
            raise APIError(400, "BadRequest", f"body: {error}") from None
        if seen.verb == "patch":
            if seen.headers.get("content-type") != "application/merge-patch+json":
                raise APIError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
            return 200, self.store.patch(kind, namespace, seen.name, item)
        if kind.plural == "events":
            _check_event(item, namespace)
        return 201, self.store.create(kind, namespace, item)

    def _list(self, kind: Kind, seen: Seen) -> Object:
        selected = Selector(kind.plural, seen.query.get("fieldSelector", ""), seen.query.get("labelSelector", ""))
        limit, token = int(seen.query.get("limit", "0")), seen.query.get("continue", "")
        items = self.store.list(kind, seen.namespace, selected)
        if seen.query.get("resourceVersion") == "0":
            limit = 0  # as in the real server, the watch cache returns everything at once
        version, start = self.store.version, 0
        if token:
            version, start = (int(part) for part in token.split("-"))
            if version < self.store._forgotten:
                raise APIError(410, "Expired", "The provided continue parameter is too old")
        metadata: Object = {"resourceVersion": str(version)}
        if limit and len(items) > start + limit:
            metadata["continue"] = f"{version}-{start + limit}"
            metadata["remainingItemCount"] = len(items) - start - limit
        page = items[start:start + limit] if limit else items[start:]
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": page}

    async def _proxy(self, seen: Seen, path: str, send: Send) -> None:
        pod, _, port = seen.name.partition(":")
        self.store.get(KINDS["pods"], seen.namespace or "", pod)
        answer = next((each for pattern, each in self.pods.items() if fnmatch.fnmatchcase(f"{pod}:{port}{path}", pattern)), None)
        if answer is None:
            raise APIError(503, "ServiceUnavailable", f"error trying to reach service: dial tcp: connection refused ({pod}:{port})")
        await asyncio.sleep(answer.get("delay", 0))
        seen.status = answer.get("status", 200)
        await _reply(send, seen.status, answer.get("text", "").replace("{pod}", pod), {"content-type": answer.get("type", "text/plain")})

    # MARK: watch

    async def _watch(self, kind: Kind, seen: Seen, fault: Fault | None, receive: Callable[[], Awaitable[Any]],
                     send: Send) -> None:
        selected = Selector(kind.plural, seen.query.get("fieldSelector", ""), seen.query.get("labelSelector", ""))
        seen.status = 200
        end = asyncio.Event()
        news = self.store.listen(kind)
        self._streams.add(end)
        self.watches += 1
        gone = asyncio.ensure_future(_disconnected(receive))
        gone.add_done_callback(lambda _: (end.set(), news.set()))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
            await self._stream(kind, seen, selected, fault or Fault(), end, news, send)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self.watches -= 1
            self._streams.discard(end)
            self.store.unlisten(kind, news)

    async def _stream(self, kind: Kind, seen: Seen, selected: Selector, fault: Fault, end: asyncio.Event,
                      news: asyncio.Event, send: Send) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + min(float(seen.query.get("timeoutSeconds", "1800")), 3600)
        bookmark_at = loop.time() + self.settings.bookmark_seconds
        asked = seen.query.get("resourceVersion", "")
        version, sent = int(asked or 0), 0
        is_partial = "as=PartialObjectMetadata" in seen.headers.get("accept", "")

        async def line(event: Object) -> None:
            nonlocal sent
            if is_partial and event["type"] != "ERROR":
                event = {"type": event["type"], "object": _metadata(event["object"])}
            if fault.big and sent >= fault.after:
                event["object"].setdefault("metadata", {})["padding"] = "x" * fault.big
                fault.big = 0
            text = json.dumps(event, separators=(",", ":")).encode() + b"\n"
            if fault.cut and sent >= fault.after:
                await send({"type": "http.response.body", "body": text[:len(text) // 2], "more_body": True})
                self.break_connections()
                raise Broken
            if fault.garbage and sent >= fault.after:
                text = b'{"type":"MODIFIED","object":{"metadata":{"name":nonsense\n'
            sent += 1
            await send({"type": "http.response.body", "body": text, "more_body": True})

        if version == 0:
            for item in self.store.list(kind, seen.namespace, selected):
                await line({"type": "ADDED", "object": item})
            version = self.store.version
        while not end.is_set():
            news.clear()
            try:
                if fault.expire and sent >= fault.after:
                    raise APIError(410, "Expired", "too old resource version")
                changes = self.store.since(kind, version)
            except APIError as error:
                await line({"type": "ERROR", "object": error.status()})
                return
            for change in changes:
                version = change.version
                if (event := _event(change, seen.namespace, selected)) is not None:
                    await line(event)
                if fault.end and sent >= fault.after:
                    return
            if fault.hang and sent >= fault.after:
                await end.wait()
                return
            now = loop.time()
            if now >= until:
                return
            if seen.query.get("allowWatchBookmarks") == "true" and now >= bookmark_at:
                bookmark_at = now + self.settings.bookmark_seconds
                version = self.store.version
                await line({"type": "BOOKMARK", "object": {"kind": kind.kind, "apiVersion": kind.api_version,
                                                           "metadata": {"resourceVersion": str(version)}}})
            try:
                await asyncio.wait_for(news.wait(), max(0.0, min(until, bookmark_at) - now))
            except TimeoutError:
                pass


def _metadata(item: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def _metadata_list(listing: Object) -> Object:
    return {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": listing["metadata"],
            "items": [_metadata(item) for item in listing["items"]]}


def _event(change: Any, namespace: str | None, selected: Selector) -> Object | None:
    """How a watch with this selector sees a change: an object may enter or leave the selection."""

    def within(item: Object | None) -> bool:
        return item is not None and (namespace is None or item["metadata"].get("namespace", "") == namespace) and selected(item)

    was, now = within(change.old), within(change.new)
    if now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.new}
    if was:
        gone = {**change.old, "metadata": {**change.old["metadata"], "resourceVersion": str(change.version)}}
        return {"type": "DELETED", "object": gone}
    return None


def _check_event(item: Object, namespace: str) -> None:
    """Checks the rules of events.k8s.io/v1. Source: kubernetes pkg/apis/core/validation/events.go."""
    wrong = [name for name in ("eventTime", "reportingController", "reportingInstance", "action", "reason") if not item.get(name)]
    if item.get("type") not in ("Normal", "Warning"):
        wrong.append("type")
    wrong += [name for name in ("reason", "action", "reportingInstance") if len(item.get(name) or "") > 128]
    if len(item.get("note") or "") > 1024:
        wrong.append("note")
    if (item.get("regarding") or {}).get("namespace", "") not in ("", namespace) or not item.get("regarding"):
        wrong.append("regarding")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", item.get("eventTime") or ""):
        wrong.append("eventTime")
    if wrong:
        raise APIError(422, "Invalid", f"Event is invalid: {', '.join(sorted(set(wrong)))}")


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reply(send: Send, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    data = body.encode() if isinstance(body, str) else json.dumps(body, separators=(",", ":")).encode()
    fields = {"content-type": "text/plain" if isinstance(body, str) else "application/json", **(headers or {}),
              "content-length": str(len(data))}
    await send({"type": "http.response.start", "status": status,
                "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()]})
    await send({"type": "http.response.body", "body": data})
