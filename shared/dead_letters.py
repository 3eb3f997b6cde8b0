"""Records that no retry can save: their bytes stay here, the topic gets reason, origin and hash.

Limits stop a consumer rather than let it empty a topic into the dead letters. Such a stop is stored:
an operator lifts it, a restart does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.database import Database, Rows
from shared.errors import Fatal, Permanent
from shared.events.base import Event
from shared.events.dead_letters import RecordDeadLettered
from shared.kafka import Record
from shared.outbox import Transaction, encode_headers
from shared.parking import StoredRecord


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record and what is wrong with it; type and id as far as its headers told them."""

    record: Record
    rule: str
    field: str
    reason: str
    event_type: str = ""
    event_id: str = ""

    @classmethod
    def of(cls, record: Record, error: Permanent) -> DeadLetter:
        """What the error says of the record; type and id are read without trusting the rest."""
        told = {name: value for name, value in record.headers if name in ("ce_type", "ce_id")}
        return cls(
            record,
            storable(error.rule),
            storable(error.field),
            storable(str(error)),
            event_type=_readable(told.get("ce_type", b"")),
            event_id=_readable(told.get("ce_id", b"")),
        )


@dataclass(slots=True)
class Limits:
    """How many dead letters are a record's fault and how many are ours; counted per consumer run."""

    consecutive: int = 50
    ratio: float = 0.2
    window: int = 1_000
    _in_a_row: int = 0
    _seen: int = 0
    _dead: int = 0

    def exceeded_by(self, outcomes_dead: Sequence[bool]) -> str | None:
        """Count one batch's outcomes in their order; the reason to stop, if there is one."""
        for dead in outcomes_dead:
            self._seen += 1
            self._dead += dead
            self._in_a_row = self._in_a_row + 1 if dead else 0
            if self._in_a_row >= self.consecutive:
                return f"{self._in_a_row} records in a row are dead letters"
            if self._seen >= self.window:
                if self._dead >= self.ratio * self._seen:
                    return f"{self._dead} of the last {self._seen} records are dead letters"
                self._seen = self._dead = 0
        return None


async def bury(tx: Transaction, consumer: str, letters: Sequence[DeadLetter]) -> None:
    """Keep the bytes and publish that it happened, with this transaction."""
    hashes = [hashlib.sha256(letter.record.value or b"").hexdigest() for letter in letters]
    await tx.execute(
        """INSERT INTO dead_letters (consumer, topic, partition, "offset", key, value, headers, timestamp_ms,
                                     rule, field, reason, sha256, event_type, event_id, buried_at)
           SELECT $1, u.*, $15 FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bytea[],
                  $8::bigint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[]) AS u
           ON CONFLICT DO NOTHING""",
        consumer,
        [x.record.topic for x in letters],
        [x.record.partition for x in letters],
        [x.record.offset for x in letters],
        [x.record.key for x in letters],
        [x.record.value for x in letters],
        [encode_headers(list(x.record.headers)) for x in letters],
        [x.record.timestamp for x in letters],
        [x.rule for x in letters],
        [x.field for x in letters],
        [x.reason for x in letters],
        hashes,
        [x.event_type for x in letters],
        [x.event_id for x in letters],
        tx.time,
    )
    for letter, sha256 in zip(letters, hashes, strict=True):
        tx.publish(told_of(consumer, letter, sha256, tx.time), sequence=1)


def told_of(consumer: str, letter: DeadLetter, sha256: str, at: datetime) -> RecordDeadLettered:
    """The event: everything but the bytes, which may hold personal data."""
    record = letter.record
    return RecordDeadLettered(
        consumer=consumer,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        rule=letter.rule[:64] or "unnamed",
        field=letter.field[:500],
        reason=letter.reason[:4000],
        event_type=letter.event_type[:255] or None,
        event_id=letter.event_id or None,
        sha256=sha256,
        size_bytes=len(record.value or b""),
        dead_lettered_at=at,
    )


async def current(rows: Rows) -> AsyncIterator[tuple[Event, int, datetime]]:
    """All dead letters as events, for `shared.outbox.republish`."""
    for row in await rows.fetch('SELECT * FROM dead_letters ORDER BY topic, partition, "offset"'):
        place = row["topic"], row["partition"], row["offset"]
        record = StoredRecord(*place, row["key"], row["value"], (), row["timestamp_ms"])
        letter = DeadLetter(record, row["rule"], row["field"], row["reason"], row["event_type"], row["event_id"])
        yield told_of(row["consumer"], letter, row["sha256"], row["buried_at"]), 1, row["buried_at"]


async def note_stop(database: Database, consumer: str, topic: str, reason: str) -> None:
    """Store that the consumer stopped; a stop that stands already keeps its first reason."""
    await database.execute(
        "INSERT INTO consumer_stops (consumer, topic, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        consumer,
        topic,
        reason,
    )


async def refuse_if_stopped(database: Database, consumer: str) -> None:
    """Before a consumer starts. Its stop is told where all services see it: the process will end with the error.

    Raises:
        Fatal: a stop stands.
    """
    stop = await database.fetchrow(
        "SELECT topic, reason, stopped_at FROM consumer_stops WHERE consumer = $1 AND lifted_at IS NULL", consumer
    )
    if stop is None:
        await _no_longer_stopped(database, consumer)
    else:
        await database.execute(
            "INSERT INTO bridge.stopped_consumers (schema, consumer) VALUES (current_schema(), $1) "
            "ON CONFLICT DO NOTHING",
            consumer,
        )
        raise Fatal(
            f"{consumer} was stopped at {stop['stopped_at']:%Y-%m-%d %H:%M:%S} UTC on topic {stop['topic']}: "
            f"{stop['reason']}. See why with `bridge dead-letters list`, then let it go on with "
            f"`bridge dead-letters lift {consumer}`."
        )


async def lift_stop(rows: Rows, consumer: str, by: str) -> int:
    """Let a stopped consumer start again; how many stops that were."""
    await _no_longer_stopped(rows, consumer)
    return await rows.execute(
        """UPDATE consumer_stops SET lifted_at = clock_timestamp(), lifted_by = $2
           WHERE consumer = $1 AND lifted_at IS NULL""",
        consumer,
        by,
    )


async def _no_longer_stopped(rows: Rows | Database, consumer: str) -> None:
    await rows.execute(
        "DELETE FROM bridge.stopped_consumers WHERE schema = current_schema() AND consumer = $1", consumer
    )


def storable(text: str) -> str:
    """The text as PostgreSQL and JSON can hold it: a reason may quote what the record says, NUL included."""
    return text.encode(errors="backslashreplace").decode().replace("\x00", "\\x00")


def _readable(value: bytes) -> str:
    return value.decode(errors="replace").replace("\x00", "")[:1024]
