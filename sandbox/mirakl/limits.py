"""Call frequencies: how often an operation may be called, as published, per shop and operation.

Windows slide by the sandbox's own clock. A refused call does not count. Retry-After speaks of the caller's
seconds, which are the sandbox's own where callers share its clock.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timedelta
from typing import Any

from sandbox.common.clock import Clock
from sandbox.mirakl.call import Call
from sandbox.mirakl.operations import Windows


def windows_of(call: Call) -> tuple[str, Windows]:
    """The limit this call falls under: a name for its bucket, and the windows; no windows = no limit."""
    operation, behaviour = call.operation, call.market.config.behaviour
    own = behaviour.limits.get(operation.code)
    if own is not None:
        return operation.code, tuple(own)
    later_page = call.query.get("offset", 0) > 0 or "page_token" in call.query
    if operation.code == "OR11":
        named = any(name in call.query for name in ("order_ids", "order_references_for_seller"))
        if (later_page or named) and not behaviour.or11_pages_count:
            return operation.code, ()
    elif operation.paging is not None and operation.paging.free_pages and later_page:
        return operation.code, ()
    for name, windows in operation.variants:
        if _is_variant(call, name):
            return f"{operation.code} {name}", windows
    bucket = operation.code
    if operation.scope == "path":
        bucket += " " + "/".join(call.path.values())
    return bucket, operation.windows


def _is_variant(call: Call, name: str) -> bool:
    """Whether a call is the rarer kind its operation publishes a limit of its own for."""
    body: Any = call.body or {}
    if name == "with products":
        part = call.form.get("with_products")
        return part is not None and part.content.strip().lower() == b"true"
    # A full export is one that does not ask for what has changed since a date.
    return not any(body.get(field) for field in ("last_request_date", "start_update_date"))


# No published window is longer than a day; beyond this many buckets those that are older are dropped.
MOST_BUCKETS = 10_000


class Limits:
    """The calls of the recent past, per bucket."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: dict[tuple[str, int, str], deque[datetime]] = {}

    def retry_after(self, call: Call) -> int | None:
        """Counts the call, or gives the whole seconds to wait where it comes too early."""
        bucket, windows = windows_of(call)
        if not windows:
            return None
        now = self._clock.now()
        calls = self._calls.setdefault((call.market.name, call.shop.id, bucket), deque())
        longest = max(seconds for _, seconds in windows)
        while calls and calls[0] <= now - timedelta(seconds=longest):
            calls.popleft()
        tolerance = timedelta(seconds=call.market.config.behaviour.limit_tolerance_seconds)
        wait = 0.0
        for most, seconds in windows:
            if len(calls) >= most:
                free = calls[-most] + timedelta(seconds=seconds) - tolerance
                wait = max(wait, (free - now).total_seconds())
        if wait > 0:
            call.against("too_frequent", bucket, f"again in {wait:.0f} s at the earliest")
            if call.market.config.behaviour.enforce_limits:
                return max(1, math.ceil(self._clock.outside_seconds(wait)))
        calls.append(now)
        if len(self._calls) > MOST_BUCKETS:
            self._forget(now - timedelta(days=1))
        return None

    def _forget(self, before: datetime) -> None:
        """Drops buckets nobody has called since; imports and exports have one each."""
        self._calls = {bucket: calls for bucket, calls in self._calls.items() if calls and calls[-1] > before}
