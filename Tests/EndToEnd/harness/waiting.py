"""Waiting for conditions; the only place that sleeps between two looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from . import paths  # noqa: F401  puts the simulator on the path

from simulator.patience import patient

T = TypeVar("T")
LONGEST_PAUSE = 0.1


def wait_for(look: Callable[[], T], what: str, deadline: float = 10.0, pause: float = 0.01) -> T:
    """Calls `look` until it returns a true value, and returns that. Raises TimeoutError naming `what`.

    The pause between two looks grows with the time waited, so that a long wait takes no processor from the other tests.
    """
    began = time.monotonic()
    until = began + patient(deadline)
    while True:
        seen = look()
        if seen:
            return seen
        now = time.monotonic()
        if now > until:
            raise TimeoutError(f"{what}: not within {patient(deadline)} s; last seen: {seen!r}")
        time.sleep(max(pause, min((now - began) / 20, LONGEST_PAUSE)))  # pause between looks
