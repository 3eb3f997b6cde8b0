"""What a remote operation declares of itself: how it may be repeated, and how often it may be called.

The API clients declare their operations, obligations obey `repeat`, the call budget obeys `rates`. The
seam between client and budget is `Gate`: a request leaves only inside `Gate.call`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal, Protocol

Repeat = Literal["reading", "guarded", "overwriting", "unguarded"]
"""`reading` has no effect. `guarded`: the remote refuses a repeat (OR21, createOrders with its number): read
the remote state, then repeat. `overwriting`: harmless to repeat, but a late old one overwrites a newer
(STO01). `unguarded`: a repeat may be a second effect (OR28, ST01): never blindly (platform.md, decision 8)."""

Purpose = Literal["deadline", "interactive", "poll", "backfill"]
"""Whose turn it is when several want one slot: what has a deadline, then a person who waits, then the regular
poll, then what can wait."""

PURPOSES: tuple[Purpose, ...] = ("deadline", "interactive", "poll", "backfill")
"""First served first."""


@dataclass(frozen=True, slots=True)
class CallRate:
    """At most `calls` in `seconds`; with one call, the next counts from the previous answer."""

    calls: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Operation:
    """One remote operation by its vendor's name, such as `OR11` or `createOrders`."""

    name: str
    system: Literal["mirakl", "sfcc"]
    repeat: Repeat
    timeout_seconds: float = 30.0
    rates: tuple[CallRate, ...] = ()
    """The published maximum for a seller's own integration; empty: none is published."""
    partner_rates: tuple[CallRate, ...] | None = None
    """The published maximum for an external partner where it differs (OR11)."""
    pages_count: bool = True
    """Whether further pages of one reading count against the rate; a setting may say otherwise."""
    per_object: bool = False
    """Counted per object of the call (an import's status, an export's), not only per shop."""
    tells_load: bool = False
    """Whether its answers carry SFCC's load (`sfdc_load_status`), so that it is slowed down by that."""


@dataclass(slots=True)
class Call:
    """One call under way, for what its answer says about the next ones."""

    operation: Operation
    account: str
    status: int | None = None
    retry_after_seconds: float | None = None
    """What `Retry-After` asked for with 429 or 503."""
    load: str | None = field(default=None)
    """SFCC's own word for its load (`sfdc_load_status`), where it gave one."""


_heard: ContextVar[set[str] | None] = ContextVar("heard", default=None)


@contextmanager
def listening(heard: set[str]) -> Iterator[None]:
    """Let `heard` take in which operations and keys the remote systems grant to the calls of this block."""
    token = _heard.set(heard)
    try:
        yield
    finally:
        _heard.reset(token)


def hear(*granted: str) -> None:
    """An answer shows that an operation is allowed, or a key good, by its name in the settings."""
    heard = _heard.get()
    if heard is not None:
        heard.update(name for name in granted if name)


class Gate(Protocol):
    """Lets calls through at their time."""

    def call(
        self, operation: Operation, account: str, *, purpose: Purpose = "poll", about: str = "", page: bool = False
    ) -> AbstractAsyncContextManager[Call]:
        """Wait for a slot, then let the block make its one request; the block fills in the `Call`.

        `account` is whose budget it is: `marketplace/shop`, or the SFCC instance. `about` is the object
        where the operation counts per object. `page` marks a further page of one reading.
        """
        ...


class OpenGate:
    """A gate without limits: for tests, probes and systems that publish none."""

    @asynccontextmanager
    async def call(
        self, operation: Operation, account: str, *, purpose: Purpose = "poll", about: str = "", page: bool = False
    ) -> AsyncIterator[Call]:
        """No waiting."""
        yield Call(operation, account)
