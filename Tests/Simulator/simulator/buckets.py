"""Request throttling like EC2's: a token bucket for each action."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# capacity, refill per second
_INTERFACES = (100.0, 5.0)
_TAGS = (100.0, 10.0)
_MUTATING = (50.0, 5.0)
_DESCRIBE = (100.0, 20.0)
_DESCRIBE_ALL = (50.0, 10.0)

_INTERFACE_ACTIONS = {
    "CreateNetworkInterface", "DeleteNetworkInterface", "ModifyNetworkInterfaceAttribute",
    "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses", "AssignIpv6Addresses", "UnassignIpv6Addresses",
}
_COSTLY_WHEN_UNFILTERED = {"DescribeNetworkInterfaces", "DescribeInstances", "DescribeSecurityGroups"}
_NARROWING = ("Filter.", "MaxResults", "NetworkInterfaceId.", "InstanceId.", "GroupId.", "GroupName.", "NextToken")


def is_narrow(parameters: dict[str, str]) -> bool:
    """Whether a describe call names, filters or pages its results."""
    return any(name.startswith(_NARROWING) for name in parameters)


class TokenBucket:
    def __init__(self, capacity: float, refill_per_second: float, now: float) -> None:
        self._capacity = capacity
        self._refill = refill_per_second
        self._tokens = capacity
        self._at = now

    def take(self, now: float) -> bool:
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * self._refill)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class RequestBuckets:
    """All buckets of the account and region. Off until `enabled`; enabling fills them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, TokenBucket] = {}
        self._enabled = False
        self._sizes: dict[str, tuple[float, float]] = {}

    @property
    def enabled(self) -> bool:
        return self._enabled

    def switch(self, enabled: bool) -> None:
        with self._lock:
            self._enabled = enabled
            self._buckets.clear()

    def resize(self, action: str, capacity: float, refill_per_second: float) -> None:
        """Changes the size of one action's bucket, so that a test need not make a hundred calls first."""
        with self._lock:
            self._sizes[action] = (capacity, refill_per_second)
            self._buckets.pop(action, None)
            self._buckets.pop(f"{action} unfiltered", None)

    def admit(self, action: str, parameters: dict[str, str]) -> bool:
        """Whether this call is admitted; an admitted call costs a token."""
        if not self._enabled:
            return True
        name, size = self._bucket_for(action, parameters)
        now = self._clock()
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None:
                bucket = self._buckets[name] = TokenBucket(*size, now)
            return bucket.take(now)

    def _bucket_for(self, action: str, parameters: dict[str, str]) -> tuple[str, tuple[float, float]]:
        if action in self._sizes:
            return action, self._sizes[action]
        if action.startswith(("Describe", "Get")):
            if action in _COSTLY_WHEN_UNFILTERED and not is_narrow(parameters):
                return f"{action} unfiltered", _DESCRIBE_ALL
            return action, _DESCRIBE
        if action in _INTERFACE_ACTIONS:
            return action, _INTERFACES
        return action, _TAGS if action == "CreateTags" else _MUTATING
