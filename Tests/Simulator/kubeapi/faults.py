"""Injected faults. A fault matches requests and is used up after `times` of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Fault:
    """A fault applies if every set field matches; the fields below define its effect."""

    verb: str = ""  # get, list, watch, patch, create, proxy
    plural: str = ""
    name: str = ""
    times: int = 1  # -1: unlimited
    # replaces the answer
    status: int = 0
    reason: str = ""
    retry_after: int | None = None
    text: str | None = None  # the body instead of a Status
    # before the answer
    delay: float = 0.0
    stall: bool = False  # no answer until the client goes away
    # in a watch, after `after` events
    after: int = 0
    cut: bool = False  # half of the next event, then the connection breaks
    garbage: bool = False  # the next event is not JSON
    end: bool = False  # the stream ends normally
    hang: bool = False  # no further events
    expire: bool = False  # an ERROR event with code 410
    big: int = 0  # the next event is padded to that many bytes

    def matches(self, verb: str, plural: str, name: str) -> bool:
        return self.times != 0 and all(not mine or mine == theirs for mine, theirs in
                                       ((self.verb, verb), (self.plural, plural), (self.name, name)))


class Faults:
    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fields: dict[str, Any]) -> None:
        self._faults.append(Fault(**fields))

    def clear(self) -> None:
        self._faults = []

    def take(self, verb: str, plural: str, name: str) -> Fault | None:
        for fault in self._faults:
            if fault.matches(verb, plural, name):
                if fault.times > 0:
                    fault.times -= 1
                return fault
        return None
