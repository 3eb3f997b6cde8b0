"""The relay: from the outbox to Kafka, per bucket in order, at least once, never overtaking.

A bucket is a partition of a topic, and one relay at a time leases it. What is to be sent is found by
state (the row is there), never by "id greater than the last one": ids are drawn before commit, and a
slow transaction would be skipped. A bucket's rows leave as one Kafka batch; the next one leaves when
that is acknowledged. A send without an answer is unknown: the rows stay, the producer is thrown away,
and the same rows go out again under their own ids.

Leases are real time: PostgreSQL stores them by its own clock, the holder counts them on its monotonic
clock from before it asked. A relay that slept past its lease throws its producer away before anything
else; what that producer still had buffered may come out all the same, and readers drop it by sequence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import structlog

from shared.clock import monotonic
from shared.database import Conflict, Database, Disconnected, Locked, Rows
from shared.errors import Transient
from shared.kafka import BatchProducer, Headers, Partition, SendUnknown
from shared.outbox import Outbox, decode_headers
from shared.telemetry import Metrics
from shared.topics import Topic

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """How a relay behaves; all durations are real time."""

    lease_seconds: float = 10.0
    send_seconds: float = 4.0
    """A send that has no answer by then is unknown; well below the lease."""
    rows_per_turn: int = 4_000
    idle_seconds: float = 0.1
    """How soon rows that another process wrote are noticed."""
    stuck_pause_seconds: float = 1.0
    rows_per_slot: int = 20_000
    """After this many deletions the outbox turns to its next slot, so that dead rows stay few."""


@dataclass(slots=True)
class _Stuck:
    until: float
    pause: float


@dataclass(slots=True)
class Relay:
    """Relays the topics that one service writes; several replicas share the buckets evenly."""

    outbox: Outbox
    topics: Sequence[Topic]
    holder: str
    """Unique per process start."""
    new_producer: Callable[[], BatchProducer]
    limits: RelayLimits = field(default_factory=RelayLimits)
    beat: Callable[[], None] = lambda: None
    sent_count: int = 0
    unknown_count: int = 0
    _producer: BatchProducer | None = None
    _leased: frozenset[Partition] = frozenset()
    _lease_ends: float = 0.0
    _stuck: dict[Partition, _Stuck] = field(default_factory=dict)
    _since_turn: int = 0

    @property
    def _database(self) -> Database:
        return self.outbox.database

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop`; then everything acknowledged is deleted and the leases are given back."""
        await self._database.execute(
            """INSERT INTO relay_buckets (topic, partition)
               SELECT * FROM unnest($1::text[], $2::int[]) ON CONFLICT DO NOTHING""",
            *_columns([Partition(t.name, p) for t in self.topics for p in range(t.partitions)]),
        )
        try:
            while not stop.is_set():
                self.beat()
                try:
                    busy = await self.turn()
                except (Transient, ExceptionGroup) as error:
                    log.warning("relay_waits", reason=str(error))
                    await asyncio.sleep(self.limits.stuck_pause_seconds)
                    continue
                if not busy:
                    await self._wait(stop)
        finally:
            await self.release()

    async def _wait(self, stop: asyncio.Event) -> None:
        """Until something was written here, or for the idle time: others write too."""
        try:
            async with asyncio.timeout(self.limits.idle_seconds):
                await self.outbox.written.wait()
        except TimeoutError:
            return

    async def turn(self) -> bool:
        """Send one batch of every leased bucket that has rows; whether there were any.

        Raises:
            Transient: PostgreSQL or Kafka are away; nothing is lost, try again.
        """
        self.outbox.written.clear()
        await self._keep_leases()
        now = monotonic()
        buckets = [b for b in self._leased if b not in self._stuck or self._stuck[b].until <= now]
        if not buckets:
            return False
        rows = await self._claim(buckets)
        if not rows:
            return False
        sent = await self._send(rows)
        if sent:
            await self._delete(sent)
            count = sum(len(acknowledged) for acknowledged in sent.values())
            self.sent_count += count
            await self._turn_slot(count)
        return True

    async def _keep_leases(self) -> None:
        """Extend what we hold, take a fair share of what is free, give back what is too much."""
        asked = monotonic()
        slept = bool(self._leased) and asked >= self._lease_ends
        if slept:
            # Somebody else may have the buckets by now. Whatever this producer still holds must not mix
            # with what we send next.
            await self._discard_producer()
            self._leased = frozenset()
        elif self._lease_ends - asked > self.limits.lease_seconds * 2 / 3:
            return
        async with self._database.transaction() as rows:
            held = await lease_buckets(rows, self.holder, [t.name for t in self.topics], self.limits.lease_seconds)
        self._leased = frozenset(held)
        self._lease_ends = asked + self.limits.lease_seconds
        self._stuck = {bucket: stuck for bucket, stuck in self._stuck.items() if bucket in self._leased}

    async def _claim(self, buckets: Sequence[Partition]) -> dict[Partition, list[Mapping[str, Any]]]:
        """The oldest rows of each bucket, found by state and in order of position."""
        found = await self._database.fetch(
            """SELECT b.n, o.slot, o.position, o.key, o.value, o.headers
               FROM unnest($1::text[], $2::int[]) WITH ORDINALITY AS b(topic, partition, n)
               CROSS JOIN LATERAL (SELECT * FROM outbox WHERE outbox.topic = b.topic AND outbox.partition = b.partition
                                   ORDER BY outbox.position LIMIT $3) AS o""",
            *_columns(buckets),
            max(50, self.limits.rows_per_turn // len(buckets)),
        )
        return {buckets[n - 1]: list(rows) for n, rows in groupby(found, key=itemgetter("n"))}

    async def _send(
        self, rows: Mapping[Partition, list[Mapping[str, Any]]]
    ) -> dict[Partition, list[Mapping[str, Any]]]:
        """Send one batch per bucket, all buckets at once; the rows that Kafka has acknowledged."""
        if self._producer is None:
            producer = self.new_producer()
            await producer.start()
            self._producer = producer
        producer = self._producer
        # Each bucket's end is awaited, also when another's fails: none may still be under way when the
        # next turn sends the same rows.
        sends = (self._send_bucket(producer, bucket, its_rows) for bucket, its_rows in rows.items())
        results = await asyncio.gather(*sends, return_exceptions=True)
        if any(result is None or isinstance(result, BaseException) for result in results):
            await self._discard_producer()
        sent = {}
        for bucket, result in zip(rows, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            if result:
                sent[bucket] = result
        return sent

    async def _send_bucket(
        self, producer: BatchProducer, bucket: Partition, rows: list[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]] | None:
        """The rows that Kafka has acknowledged, or None where nobody knows."""
        timeout = min(self.limits.send_seconds, self._lease_ends - monotonic())
        if timeout <= 0:
            return []  # The lease ran out while we prepared; the next turn sees to it.
        records: list[tuple[bytes, bytes, Headers]] = [
            (row["key"].encode(), row["value"], decode_headers(row["headers"])) for row in rows
        ]
        try:
            count = await producer.send(bucket, records, timeout)
        except SendUnknown as error:
            self.unknown_count += 1
            Metrics.unknown_sends.add(1, {"topic": bucket.topic})
            await self._note_stuck(bucket, str(error))
            return None
        Metrics.sent.add(count, {"topic": bucket.topic})
        if bucket in self._stuck:
            await self._note_free(bucket)
        return rows[:count]

    async def _note_stuck(self, bucket: Partition, reason: str) -> None:
        pause = min(self._stuck[bucket].pause * 2, 30.0) if bucket in self._stuck else self.limits.stuck_pause_seconds
        self._stuck[bucket] = _Stuck(until=monotonic() + pause, pause=pause)
        log.warning("bucket_stuck", topic=bucket.topic, partition=bucket.partition, reason=reason)
        await self._database.execute(
            """UPDATE relay_buckets SET stuck_since = coalesce(stuck_since, clock_timestamp()), stuck_reason = $3
               WHERE topic = $1 AND partition = $2""",
            *bucket,
            reason,
        )

    async def _note_free(self, bucket: Partition) -> None:
        del self._stuck[bucket]
        await self._database.execute(
            "UPDATE relay_buckets SET stuck_since = NULL, stuck_reason = NULL WHERE topic = $1 AND partition = $2",
            *bucket,
        )

    async def _delete(self, sent: Mapping[Partition, list[Mapping[str, Any]]]) -> None:
        # Positions travel as one text per bucket and slot: a number for each row would cost the driver
        # more than everything else here. Never a range: a row that commits late may lie within it.
        piles: dict[tuple[Partition, int], list[str]] = {}
        for bucket, rows in sent.items():
            for row in rows:
                piles.setdefault((bucket, row["slot"]), []).append(str(row["position"]))
        await self._database.execute(
            """DELETE FROM outbox AS o USING unnest($1::text[], $2::int[], $3::smallint[], $4::text[])
                      AS d(topic, partition, slot, positions)
               WHERE o.topic = d.topic AND o.partition = d.partition AND o.slot = d.slot
                 AND o.position = ANY(string_to_array(d.positions, ',')::bigint[])""",
            *_columns(bucket for bucket, _ in piles),
            [slot for _, slot in piles],
            [",".join(positions) for positions in piles.values()],
        )

    async def _turn_slot(self, deleted: int) -> None:
        """After enough deletions, turn to the next slot and empty those that are done with."""
        self._since_turn += deleted
        if self._since_turn < self.limits.rows_per_slot:
            return
        self._since_turn = 0
        try:
            async with self._database.transaction() as rows:
                await turn_slot(rows)
        except (Conflict, Locked):
            return  # Somebody holds a slot, a dump perhaps; the next turn tries again.

    async def _discard_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.discard()

    async def release(self) -> None:
        """Give the leases back, so that another relay need not wait for their end."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
        self._leased = frozenset()
        try:
            async with asyncio.timeout(3):
                async with self._database.transaction() as rows:
                    await rows.execute("DELETE FROM relays WHERE holder = $1", self.holder)
                    await rows.execute(
                        "UPDATE relay_buckets SET holder = NULL, leased_until = NULL WHERE holder = $1", self.holder
                    )
        except (Disconnected, Conflict, Locked, TimeoutError):
            return  # The leases end by themselves.


async def lease_buckets(rows: Rows, holder: str, topics: Sequence[str], lease_seconds: float) -> list[Partition]:
    """Extend, take and give back, so that the relays that are alive share the buckets evenly; what is held then."""
    await rows.execute(
        """INSERT INTO relays (holder, seen_until) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
           ON CONFLICT (holder) DO UPDATE SET seen_until = excluded.seen_until""",
        holder,
        lease_seconds,
    )
    await rows.execute("DELETE FROM relays WHERE seen_until < clock_timestamp() - interval '1 minute'")
    alive = await rows.fetchval("SELECT count(*) FROM relays WHERE seen_until > clock_timestamp()")
    total = await rows.fetchval("SELECT count(*) FROM relay_buckets WHERE topic = ANY($1)", topics)
    share = -(-total // max(1, alive))
    held = await rows.fetch(
        """UPDATE relay_buckets SET leased_until = clock_timestamp() + make_interval(secs => $2)
           WHERE holder = $1 AND topic = ANY($3) RETURNING topic, partition""",
        holder,
        lease_seconds,
        topics,
    )
    mine = sorted(Partition(row["topic"], row["partition"]) for row in held)
    if surplus := mine[share:]:
        await rows.execute(
            """UPDATE relay_buckets AS r SET holder = NULL, leased_until = NULL
               FROM unnest($2::text[], $3::int[]) AS s(topic, partition)
               WHERE r.topic = s.topic AND r.partition = s.partition AND r.holder = $1""",
            holder,
            *_columns(surplus),
        )
        return mine[:share]
    if len(mine) < share:
        taken = await rows.fetch(
            """UPDATE relay_buckets AS r SET holder = $1, leased_until = clock_timestamp() + make_interval(secs => $2)
               FROM (SELECT topic, partition FROM relay_buckets
                     WHERE topic = ANY($3) AND (leased_until IS NULL OR leased_until < clock_timestamp())
                     ORDER BY topic, partition LIMIT $4 FOR UPDATE SKIP LOCKED) AS f
               WHERE r.topic = f.topic AND r.partition = f.partition RETURNING r.topic, r.partition""",
            holder,
            lease_seconds,
            topics,
            share - len(mine),
        )
        mine += [Partition(row["topic"], row["partition"]) for row in taken]
    return mine


async def turn_slot(rows: Rows) -> None:
    """Let writers use the next slot, if that is empty, and truncate the empty ones behind.

    Truncation gives dead rows back at once, whatever snapshot somebody's long transaction keeps; a slot
    that somebody still writes to or reads is left for the next time.
    """
    current = await rows.fetchval("SELECT current FROM outbox_slot FOR UPDATE")
    following = (current + 1) % 3
    for slot in (following, (current + 2) % 3):
        await rows.execute(f"LOCK TABLE outbox_{slot} IN ACCESS EXCLUSIVE MODE NOWAIT")
        if await rows.fetchval(f"SELECT NOT EXISTS (SELECT 1 FROM outbox_{slot})"):
            await rows.execute(f"TRUNCATE outbox_{slot}")
        elif slot == following:
            return  # Not drained yet: writers stay where they are.
    await rows.execute("UPDATE outbox_slot SET current = $1", following)


def _columns(partitions: Iterable[Partition]) -> tuple[list[str], list[int]]:
    listed = list(partitions)
    return [p.topic for p in listed], [p.partition for p in listed]
