"""The typed table from event type to function, and what a handler is given.

Two kinds of handler, two types: a *projector* turns events into rows and nothing else, so it may be
attached to a replay; a *reactor* may also publish and owe, and never is. Each comes for one event at a
time or, where it is hot, for a batch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from shared.database import Rows
from shared.envelope import Envelope
from shared.events.base import Event
from shared.outbox import Transaction
from shared.topics import Topic, topic_of

E = TypeVar("E", bound=Event)

Guard = Literal["inbox", "sequence", "state"]
"""What keeps an event from being applied twice: its claimed id (topics that are dropped some day), the
newest sequence of its key (topics kept for ever), or the handler's own state, guarded by version."""


class Received(msgspec.Struct, Generic[E], frozen=True):
    """An event with its envelope and the place it came from."""

    event: E
    envelope: Envelope
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Projector(Generic[E]):
    """Pure: events in, rows out."""

    event_type: type[E]
    apply: Callable[[Sequence[Received[E]], Rows], Awaitable[None]]
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class Reactor(Generic[E]):
    """May publish and owe."""

    event_type: type[E]
    apply: Callable[[Sequence[Received[E]], Transaction], Awaitable[None]]
    guard: Guard | None = None


def project(
    event_type: type[E], handle: Callable[[Received[E], Rows], Awaitable[None]], guard: Guard | None = None
) -> Projector[E]:
    """A projector for one event at a time."""

    async def one_by_one(events: Sequence[Received[E]], rows: Rows) -> None:
        for received in events:
            await handle(received, rows)

    return Projector(event_type, one_by_one, guard)


def project_batch(
    event_type: type[E], handle: Callable[[Sequence[Received[E]], Rows], Awaitable[None]], guard: Guard | None = None
) -> Projector[E]:
    """A projector for a batch in its order."""
    return Projector(event_type, handle, guard)


def react(
    event_type: type[E], handle: Callable[[Received[E], Transaction], Awaitable[None]], guard: Guard | None = None
) -> Reactor[E]:
    """A reactor for one event at a time."""

    async def one_by_one(events: Sequence[Received[E]], tx: Transaction) -> None:
        for received in events:
            await handle(received, tx)

    return Reactor(event_type, one_by_one, guard)


def react_batch(
    event_type: type[E],
    handle: Callable[[Sequence[Received[E]], Transaction], Awaitable[None]],
    guard: Guard | None = None,
) -> Reactor[E]:
    """A reactor for a batch in its order."""
    return Reactor(event_type, handle, guard)


@dataclass(frozen=True, slots=True)
class Route:
    """How one event type is handled: by whom, and guarded by what."""

    handler: Projector[Any] | Reactor[Any]
    guard: Guard
    topic: Topic


class Handlers:
    """All handlers of one consumer, by wire type.

    Raises:
        ValueError: two handlers for one event type.
    """

    def __init__(self, *handlers: Projector[Any] | Reactor[Any]) -> None:
        routes: dict[str, Route] = {}
        for handler in handlers:
            wire_type = handler.event_type.TYPE
            if wire_type in routes:
                raise ValueError(f"two handlers for {wire_type}: an event is handled once per consumer")
            topic = topic_of(handler.event_type)
            default: Guard = "sequence" if topic.retention is None else "inbox"
            routes[wire_type] = Route(handler, handler.guard or default, topic)
        self.routes: Mapping[str, Route] = routes
        self.families = frozenset(wire_type.rpartition(".v")[0] for wire_type in routes)
        self.topics = tuple(dict.fromkeys(route.topic for route in routes.values()))

    def projectors(self) -> Iterable[Projector[Any]]:
        """Those that a replay may feed."""
        return (r.handler for r in self.routes.values() if isinstance(r.handler, Projector))
