"""Field and label selectors, limited to what servers and clients of tests use."""

from __future__ import annotations

import re
from typing import Any

# The fields that the real API server can select by, besides metadata.name and metadata.namespace.
_FIELDS = {
    "pods": {"spec.nodeName", "status.phase", "status.podIP", "spec.schedulerName", "spec.serviceAccountName"},
    "nodes": {"spec.unschedulable"},
    "events": {"regarding.name", "reason", "type"},
}


class BadSelector(Exception):
    """The request gets a 400, as from the real server."""


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part]


def _look(item: dict[str, Any], path: str) -> str:
    value: Any = item
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else str(value)


class Selector:
    def __init__(self, plural: str, fields: str = "", labels: str = "") -> None:
        known = {"metadata.name", "metadata.namespace"} | _FIELDS.get(plural, set())
        self._fields: list[tuple[str, bool, str]] = []
        for part in _split(fields):
            match = re.fullmatch(r"([\w.]+)(==|!=|=)(.*)", part)
            if match is None or match[1] not in known:
                raise BadSelector(f"field label not supported: {part}")
            self._fields.append((match[1], match[2] != "!=", match[3]))
        self._labels: list[tuple[str, str, set[str]]] = []
        for part in _split(labels):
            if match := re.fullmatch(r"([\w./-]+)\s*(==|!=|=)\s*([\w.-]*)", part):
                self._labels.append((match[1], "notin" if match[2] == "!=" else "in", {match[3]}))
            elif match := re.fullmatch(r"([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)", part):
                self._labels.append((match[1], match[2], {each.strip() for each in match[3].split(",")}))
            elif match := re.fullmatch(r"(!?)([\w./-]+)", part):
                self._labels.append((match[2], "absent" if match[1] else "present", set()))
            else:
                raise BadSelector(f"unable to parse requirement: {part}")

    def __call__(self, item: dict[str, Any]) -> bool:
        labels = item.get("metadata", {}).get("labels") or {}
        for path, wanted, value in self._fields:
            if (_look(item, path) == value) != wanted:
                return False
        for key, operator, values in self._labels:
            held = {"in": key in labels and labels.get(key) in values, "notin": labels.get(key) not in values,
                    "present": key in labels, "absent": key not in labels}[operator]
            if not held:
                return False
        return True
