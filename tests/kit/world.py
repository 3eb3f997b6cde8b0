"""The flow's small service in one place: a real database, a scripted Kafka, consumers and relays on them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shared.consumer import Consumer, Pace
from shared.database import Database
from shared.events.base import Event
from shared.handlers import Handlers
from shared.kafka import BatchProducer, Partition, Record
from shared.outbox import Outbox
from shared.relay import Relay, RelayLimits
from shared.topics import topic_of
from tests.kit.flow import NOW, FixedClock, follower, forwarder, level, record_parts
from tests.kit.scripted import ScriptedConsumer, ScriptedKafka, ScriptedProducer

SCHEMA = "flow"
LEVELS = Partition("stock-levels", 0)
MAPPINGS = tuple(Partition("mappings", p) for p in range(3))
BRISK = Pace(poll_ms=5, commit_seconds=0.5, watch_seconds=0.2, rebuild_seconds=0.02, stop_seconds=2.0)

_numbers = itertools.count(1)


@dataclass
class Member:
    """One consumer with its scripted client."""

    consumer: Consumer
    client: ScriptedConsumer
    partitions: tuple[Partition, ...]

    async def to_end(self, *, seconds: float = 150.0) -> None:
        """Join, apply what is there, and stop when all of it is behind us."""
        await self.until(self.at_end, seconds=seconds)

    async def until(self, holds: Callable[[], bool], *, seconds: float = 150.0) -> None:
        """Join, and run until something holds after a poll."""
        stop = asyncio.Event()
        interfere = self.client.polled

        def look(records: Sequence[Record]) -> None:
            interfere(records)
            if not records and holds():
                stop.set()

        self.client.polled = look
        self.client.give(*self.partitions)
        try:
            async with asyncio.timeout(seconds):
                await self.consumer.run(stop)
        finally:
            self.client.polled = interfere

    def at_end(self) -> bool:
        """Everything on our partitions is applied, buried, skipped or parked."""
        held, logs = self.consumer.held, self.client.kafka.logs
        return all(p in held and held[p].next_offset >= len(logs.get(p, ())) for p in self.partitions)


@dataclass
class World:
    """What one test sees."""

    url: str
    database: Database
    clock: FixedClock = field(default_factory=FixedClock)
    kafka: ScriptedKafka = field(default_factory=ScriptedKafka)
    producers: list[ScriptedProducer] = field(default_factory=list)

    @property
    def outbox(self) -> Outbox:
        """A fresh one, as a restarted process has it."""
        return Outbox(self.database, "forwarder", self.clock)

    def member(
        self,
        handlers: Handlers | None = None,
        *,
        name: str = "forwarder",
        partitions: Sequence[Partition] = (LEVELS,),
        **options: Any,
    ) -> Member:
        """A group member that starts now."""
        client = ScriptedConsumer(self.kafka)
        consumer = Consumer(
            name,
            f"{name}-{next(_numbers)}",
            handlers or forwarder(),
            self.outbox,
            lambda: client,
            **({"pace": BRISK} | options),
        )
        return Member(consumer, client, tuple(partitions))

    def follower(self, handlers: Handlers | None = None) -> Member:
        """The one that reads what the forwarder published."""
        return self.member(handlers or follower(), name="follower", partitions=MAPPINGS)

    def relay(
        self,
        *,
        outcome: Callable[[Partition, int], str] = lambda partition, count: "acknowledge",
        limits: RelayLimits | None = None,
        events: Sequence[type[Event]] | None = None,
        holder: str | None = None,
    ) -> Relay:
        """A relay that starts now, for `mappings` and `dead-letters` unless told otherwise."""
        from shared.events.control import MappingSet
        from shared.events.dead_letters import RecordDeadLettered

        def new_producer() -> BatchProducer:
            self.producers.append(ScriptedProducer(self.kafka, outcome))
            return self.producers[-1]  # type: ignore[return-value]

        topics = [topic_of(event) for event in events or (MappingSet, RecordDeadLettered)]
        return Relay(self.outbox, topics, holder or f"relay-{next(_numbers)}", new_producer, limits or RelayLimits())

    async def relay_all(self, relay: Relay | None = None) -> Relay:
        """Relay until nothing is left that could be sent now; a relay of the test's own keeps its leases."""
        ours = relay or self.relay()
        await make_buckets(ours)
        while await ours.turn():
            pass
        if relay is None:
            await ours.release()
        return ours

    def say(self, key: str, *numbers: int, at: datetime = NOW, **options: Any) -> None:
        """Facts 1, 2, 3 … about a product, as an outside producer writes them."""
        for n in numbers:
            self.put(level(key, n, at), n, time=at, **options)

    def put(self, event: Event, sequence: int, *, partition: int = 0, **options: Any) -> None:
        """One event as a record."""
        topic, key, value, headers = record_parts(event, sequence, **options)
        self.kafka.append(topic, key, value, headers, partition=partition)

    async def applied(self, consumer: str = "forwarder") -> dict[str, list[int]]:
        """What a consumer applied, per key in its order."""
        from tests.kit.flow import applied

        return await applied(self.database, consumer)

    async def count(self, table: str) -> int:
        """Rows of a table."""
        return int(await self.database.fetchval(f"SELECT count(*) FROM {table}"))

    async def row(self, sql: str, *values: object) -> Mapping[str, Any]:
        """The one row that a query finds."""
        rows = await self.database.fetch(sql, *values)
        assert len(rows) == 1, rows
        return rows[0]

    async def retry_now(self) -> None:
        """As if the time of every waiting key had come, save those that wait for a person."""
        await self.database.execute(
            "UPDATE parked_keys SET retry_at = clock_timestamp() WHERE retry_at < 'infinity'::timestamptz"
        )

    async def leases_end(self) -> None:
        """As if every relay's lease had run out."""
        await self.database.execute(
            "UPDATE relay_buckets SET leased_until = clock_timestamp() - interval '1 s' WHERE holder IS NOT NULL"
        )
        await self.database.execute("DELETE FROM relays")


async def make_buckets(relay: Relay) -> None:
    """What `run` does first; for tests that turn by hand."""
    stopped = asyncio.Event()
    stopped.set()
    await relay.run(stopped)


async def eventually(holds: Callable[[], Any], *, seconds: float = 120.0) -> None:
    """Wait for the moment, not for a time; `holds` may be a plain or an async function."""
    async with asyncio.timeout(seconds):
        while True:
            found = holds()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)
