"""Events written with the state they belong to, and what a relay finds of them.

`Transaction.publish` stands beside the UPDATE it belongs to; the rows are inserted in one statement at
the end of the transaction, when all of its row locks are held, so that a key's positions grow in the
order of its transactions. Every record is encoded, validated and measured here: a mistake of ours never
reaches a topic, and no record can halt a bucket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

import msgspec

from shared.clock import monotonic
from shared.codec import encode
from shared.database import Database, Rows
from shared.envelope import Envelope, to_headers
from shared.errors import Permanent
from shared.events.base import Event, schema_uri
from shared.kafka import MAX_RECORD_BYTES, partition_of
from shared.telemetry import new_traceparent
from shared.topics import Topic, topic_of

encode_headers = msgspec.msgpack.Encoder().encode
decode_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class Now(Protocol):
    """The clock, as far as a publisher needs it."""

    def now(self) -> datetime: ...


class Cause(Protocol):
    """What made us publish (a received event), as far as its trace goes on."""

    @property
    def envelope(self) -> Envelope: ...


class TooLarge(Permanent):
    """An event that no Kafka batch could carry."""


def event_id(topic: str, key: str, sequence: int) -> str:
    """The `ce_id`: the same for resend, retry, replay and republication, because it is made of what never changes."""
    return f"{topic}/{key}/{sequence}"


class Transaction(Rows):
    """A transaction as a reactor sees it: rows, and events that leave with them."""

    __slots__ = ("_ids", "_outbox", "_rows", "time")

    def __init__(self, connection: Any, outbox: Outbox) -> None:
        super().__init__(connection)
        self._outbox = outbox
        self.time = outbox.clock.now()
        self._rows: list[tuple[str, int, str, bytes, bytes]] = []
        self._ids: set[str] = set()

    @property
    def service(self) -> str:
        """Whose transaction it is."""
        return self._outbox.service

    @property
    def rows(self) -> Rows:
        """The same transaction without the means to publish, for projectors."""
        return Rows(self._connection)

    def publish(
        self,
        event: Event,
        *,
        sequence: int,
        cause: Cause | None = None,
        time: datetime | None = None,
        traceparent: str | None = None,
    ) -> None:
        """Publish with this transaction.

        `sequence` is the version of the row that the event is about, drawn under that row's lock: it
        grows per key, and readers drop what does not. `time` is business time, now unless given.

        Raises:
            InvalidEvent: the event breaks its own schema.
            TooLarge: it exceeds what a record may be.
            ValueError: a sequence below 1, or used twice for a key in this transaction.
        """
        topic, schema = self._outbox.place_of(type(event))
        key = event.key
        id = event_id(topic.name, key, sequence)
        if sequence < 1 or id in self._ids:
            raise ValueError(
                f"sequence {sequence} of {topic.name} key {key!r}: draw a new version of the row for every event"
            )
        value = encode(event)
        if traceparent is None:
            # A stage that begins something, such as a poll, begins a trace; all others continue one.
            traceparent = (cause.envelope.traceparent if cause else None) or new_traceparent(topic.name)
        headers = encode_headers(
            to_headers(
                # By position, which is twice as fast as by name: this line runs for every event.
                Envelope(id, self._outbox.source, event.TYPE, time or self.time, key, sequence, schema, traceparent)
            )
        )
        size = len(value) + len(headers) + len(key)
        if size > MAX_RECORD_BYTES:
            raise TooLarge(
                f"{event.TYPE} of {key!r} has {size} bytes; at most {MAX_RECORD_BYTES} fit a record: leave parts out",
                rule="too-large",
                field="$",
            )
        self._ids.add(id)
        self._rows.append((topic.name, partition_of(key, topic.partitions), key, value, headers))

    async def _write(self) -> bool:
        """Insert what was published, in one statement; whether there was anything."""
        if not self._rows:
            return False
        slot = await self._outbox.slot(self)
        await self.copy(
            "outbox", ("slot", "topic", "partition", "key", "value", "headers"), [(slot, *row) for row in self._rows]
        )
        return True


class Outbox:
    """Where one service's events wait for their relay."""

    def __init__(self, database: Database, service: str, clock: Now) -> None:
        self.database = database
        self.service = service
        self.clock = clock
        self.source = f"/sfcc-mirakl-bridge/{service}"
        self.written = asyncio.Event()
        self._places: dict[type[Event], tuple[Topic, str]] = {}
        self._slot = 0
        self._slot_until = 0.0

    async def slot(self, rows: Rows) -> int:
        """The slot that new rows go to, as of at most a second ago: an older one is correct too."""
        if monotonic() >= self._slot_until:
            self._slot = await rows.fetchval("SELECT current FROM outbox_slot")
            self._slot_until = monotonic() + 1.0
        return self._slot

    def place_of(self, event_type: type[Event]) -> tuple[Topic, str]:
        """The topic of an event type and the address of its schema."""
        place = self._places.get(event_type)
        if place is None:
            place = self._places[event_type] = topic_of(event_type), schema_uri(event_type)
        return place

    @asynccontextmanager
    async def transaction(self, *, end_blockers: bool = False) -> AsyncIterator[Transaction]:
        """One transaction whose events reach the outbox with its commit; see `Database.transaction`."""
        async with self.database.transaction(end_blockers=end_blockers) as rows:
            tx = Transaction(rows._connection, self)
            yield tx
            written = await tx._write()
        if written:
            self.written.set()


Current = Callable[[Rows], AsyncIterator[tuple[Event, int, datetime]]]
"""A topic owner's current state as events, with the sequence and the time each was first published under."""


async def republish(outbox: Outbox, current: Current, *, batch: int = 500) -> AsyncIterator[int]:
    """Write the owner's current state through the outbox under its old ids; yields how many so far.

    Readers that have it drop it by `sequence` or id; a new reader is brought up by it. It is written in
    small transactions: what changes meanwhile is published by its own change, under a higher sequence.
    """
    done = 0
    pending: list[tuple[Event, int, datetime]] = []

    async def write() -> None:
        async with outbox.transaction() as tx:
            for event, sequence, time in pending:
                tx.publish(event, sequence=sequence, time=time)

    async with outbox.database.transaction() as rows:
        async for item in current(rows):
            pending.append(item)
            if len(pending) >= batch:
                await write()
                done += len(pending)
                pending.clear()
                yield done
    if pending:
        await write()
        yield done + len(pending)
