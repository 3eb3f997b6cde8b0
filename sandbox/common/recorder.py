"""What arrived, when, and what about it was against the contract.

Promise: the newest `limit` calls and violations can be read back in the order of their arrival, with a number
that never repeats; counts go on for ever. Credentials are not kept: `caller` says who it was.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime
from itertools import islice

import msgspec

from sandbox.common.clock import iso

BODY_LIMIT_BYTES = 65_536


class Received(msgspec.Struct):
    """One call as it came in, and how it went out."""

    number: int
    at: datetime
    operation: str
    method: str
    path: str
    query: str
    caller: str
    tags: dict[str, str]
    headers: dict[str, str]
    body: bytes
    status: int | None = None
    """None while it is being worked on, and when the connection was cut instead of answered."""
    fault: str | None = None
    effect_at: datetime | None = None
    """When the call took effect; None when it had none."""

    def shown(self) -> dict[str, object]:
        """As the control API prints it."""
        return {
            "number": self.number,
            "at": iso(self.at),
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "caller": self.caller,
            "tags": self.tags,
            "headers": self.headers,
            "body": self.body[:BODY_LIMIT_BYTES].decode("utf-8", "replace"),
            "status": self.status,
            "fault": self.fault,
            "effect_at": iso(self.effect_at) if self.effect_at else None,
        }


class Violation(msgspec.Struct):
    """One thing about a call that the contract does not allow."""

    number: int
    request: int
    at: datetime
    operation: str
    rule: str
    where: str
    message: str
    caller: str

    def shown(self) -> dict[str, object]:
        return {
            "number": self.number,
            "request": self.request,
            "at": iso(self.at),
            "operation": self.operation,
            "rule": self.rule,
            "where": self.where,
            "message": self.message,
            "caller": self.caller,
        }


class Recorder:
    """Keeps the newest calls and violations, and counts all of them."""

    def __init__(self, limit: int = 10_000) -> None:
        self._calls: deque[Received] = deque(maxlen=limit)
        self._violations: deque[Violation] = deque(maxlen=limit)
        self._number = 0
        self._violation_number = 0
        self.calls_by_operation: Counter[str] = Counter()
        self.violations_by_rule: Counter[str] = Counter()

    def arrived(
        self,
        at: datetime,
        operation: str,
        method: str,
        path: str,
        query: str,
        caller: str,
        tags: dict[str, str],
        headers: dict[str, str],
        body: bytes,
    ) -> Received:
        """Notes a call before anything is done about it."""
        self._number += 1
        kept = body if len(body) <= BODY_LIMIT_BYTES else body[:BODY_LIMIT_BYTES]
        call = Received(self._number, at, operation, method, path, query, caller, tags, headers, kept)
        self._calls.append(call)
        self.calls_by_operation[operation] += 1
        return call

    def against(self, call: Received, rule: str, where: str, message: str) -> None:
        """Notes that a call broke `rule` at `where`."""
        self._violation_number += 1
        self.violations_by_rule[rule] += 1
        self._violations.append(
            Violation(self._violation_number, call.number, call.at, call.operation, rule, where, message, call.caller)
        )

    def calls(self, operation: str | None = None, after: int = 0, limit: int = 1000) -> list[Received]:
        """The calls after number `after`, oldest first."""
        found: Iterator[Received] = (
            call for call in self._calls if call.number > after and (operation is None or call.operation == operation)
        )
        return list(islice(found, limit))

    def violations(self, operation: str | None = None, after: int = 0, limit: int = 1000) -> list[Violation]:
        """The violations after number `after`, oldest first."""
        found: Iterator[Violation] = (
            one for one in self._violations if one.number > after and (operation is None or one.operation == operation)
        )
        return list(islice(found, limit))

    def clear(self) -> None:
        """Forgets calls, violations and counts; numbers go on."""
        self._calls.clear()
        self._violations.clear()
        self.calls_by_operation.clear()
        self.violations_by_rule.clear()
