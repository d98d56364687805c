"""Objects, their versions, and the history for watches."""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


class APIError(Exception):
    """An error that becomes a `Status` object."""

    def __init__(self, code: int, reason: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.retry_after = code, reason, message, retry_after

    def status(self) -> Object:
        body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "message": self.message, "reason": self.reason, "code": self.code}
        if self.retry_after is not None:
            body["details"] = {"retryAfterSeconds": self.retry_after}
        return body


@dataclass(frozen=True)
class Kind:
    root: str  # /api/v1 or /apis/GROUP/VERSION
    plural: str
    kind: str
    namespaced: bool

    @property
    def api_version(self) -> str:
        return self.root.removeprefix("/apis/").removeprefix("/api/")


KINDS = {kind.plural: kind for kind in (
    Kind("/api/v1", "nodes", "Node", False),
    Kind("/api/v1", "pods", "Pod", True),
    Kind("/api/v1", "namespaces", "Namespace", False),
    Kind("/apis/events.k8s.io/v1", "events", "Event", True),
    Kind("/apis/crd.k8s.amazonaws.com/v1alpha1", "eniconfigs", "ENIConfig", False),
    Kind("/apis/vpcresources.k8s.aws/v1alpha1", "cninodes", "CNINode", False),
)}


@dataclass(frozen=True)
class Change:
    version: int
    kind: Kind
    old: Object | None
    new: Object | None


class Store:
    """Every change gets a version from one counter for all kinds, as in etcd. Not thread-safe."""

    def __init__(self, history: int = 2000) -> None:
        self.version = 1000
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {kind: {} for kind in KINDS.values()}
        self._history: deque[Change] = deque(maxlen=history)
        self._forgotten = self.version  # changes up to this version are no longer known
        self._listeners: dict[Kind, set[asyncio.Event]] = {kind: set() for kind in KINDS.values()}

    # MARK: reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self._objects[kind].get((namespace if kind.namespaced else "", name))
        if found is None:
            raise APIError(404, "NotFound", f'{kind.plural} "{name}" not found')
        return found

    def list(self, kind: Kind, namespace: str | None, selected: Callable[[Object], bool]) -> list[Object]:
        return [item for (space, _), item in sorted(self._objects[kind].items(), key=lambda entry: entry[0])
                if (namespace is None or space == namespace) and selected(item)]

    def since(self, kind: Kind, version: int) -> list[Change]:
        """Raises 410 if changes after `version` are no longer known."""
        if version < self._forgotten:
            raise APIError(410, "Expired", f"too old resource version: {version} ({self._forgotten})")
        changes: list[Change] = []
        for change in reversed(self._history):
            if change.version <= version:
                break
            if change.kind is kind:
                changes.append(change)
        return changes[::-1]

    def listen(self, kind: Kind) -> asyncio.Event:
        event = asyncio.Event()
        self._listeners[kind].add(event)
        return event

    def unlisten(self, kind: Kind, event: asyncio.Event) -> None:
        self._listeners[kind].discard(event)

    # MARK: writing

    def create(self, kind: Kind, namespace: str, item: Object) -> Object:
        metadata = item.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        key = (namespace if kind.namespaced else "", metadata.get("name", ""))
        if not key[1]:
            raise APIError(422, "Invalid", "metadata.name: Required value: name or generateName is required")
        if key in self._objects[kind]:
            raise APIError(409, "AlreadyExists", f'{kind.plural} "{key[1]}" already exists')
        return self._set(kind, key, None, item)

    def put(self, kind: Kind, namespace: str, item: Object) -> Object:
        """Creates or replaces an object unconditionally: for the test, not for clients."""
        key = (namespace if kind.namespaced else "", item["metadata"]["name"])
        old = self._objects[kind].get(key)
        if old is not None:
            for field in ("uid", "creationTimestamp"):
                item["metadata"].setdefault(field, old["metadata"].get(field))
        return self._set(kind, key, old, item)

    def patch(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        old = self.get(kind, namespace, name)
        wanted = (patch.get("metadata") or {}).get("resourceVersion")
        if wanted is not None and wanted != old["metadata"]["resourceVersion"]:
            raise APIError(409, "Conflict", f'Operation cannot be fulfilled on {kind.plural} "{name}": the object has been '
                                            "modified; please apply your changes to the latest version and try again")
        new = merge(copy.deepcopy(old), patch)
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return old  # no change, so no new version
        return self._set(kind, (namespace if kind.namespaced else "", name), old, new)

    def delete(self, kind: Kind, namespace: str, name: str) -> Object:
        old = self.get(kind, namespace, name)
        del self._objects[kind][(namespace if kind.namespaced else "", name)]
        self.version += 1
        gone = copy.deepcopy(old)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._note(Change(self.version, kind, old, None))
        return gone

    def compact(self) -> None:
        """Drops the history, so that watches from any version but the latest are too old."""
        self._history.clear()
        self._forgotten = self.version

    def _set(self, kind: Kind, key: tuple[str, str], old: Object | None, item: Object) -> Object:
        self.version += 1
        metadata = item["metadata"]
        if kind.namespaced:
            metadata["namespace"] = key[0]
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        metadata["resourceVersion"] = str(self.version)
        item = {"apiVersion": kind.api_version, "kind": kind.kind, **item}
        self._objects[kind][key] = item
        self._note(Change(self.version, kind, old, item))
        return item

    def _note(self, change: Change) -> None:
        if self._history.maxlen is not None and len(self._history) == self._history.maxlen:
            self._forgotten = self._history[0].version
        self._history.append(change)
        for listener in self._listeners[change.kind]:
            listener.set()


def merge(target: Any, patch: Any) -> Any:
    """Applies a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge(target.get(key), value)
    return target
