"""Keys that wait, with their records queued behind them in order, while all other keys flow.

Only the partition's owner parks and drains, in its own loop and under its epoch, so arrival and drain
cannot race. Retry times are real time by PostgreSQL's clock, since they outlive the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.database import Database, Rows
from shared.kafka import Partition, Record
from shared.outbox import decode_headers, encode_headers

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class ParkedKey:
    """One key of one partition."""

    partition: Partition
    key: bytes


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it was, read back from its table."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int


@dataclass(frozen=True, slots=True)
class Parking:
    """A record that goes behind its key, and why the key waits if it does not wait yet."""

    record: Record
    rule: str
    reason: str
    retry_seconds: float = FIRST_RETRY_SECONDS


def retry_pause_seconds(attempts: int) -> float:
    """Doubling from one second to five minutes."""
    return float(min(FIRST_RETRY_SECONDS * 2**attempts, LONGEST_RETRY_SECONDS))


def key_of(record: Record) -> ParkedKey:
    """The key a record belongs to; records without a key share one."""
    return ParkedKey(Partition(record.topic, record.partition), record.key or b"")


async def park(rows: Rows, consumer: str, parkings: Sequence[Parking]) -> None:
    """Queue records behind their keys; a key that already waits keeps its first reason."""
    heads: dict[ParkedKey, Parking] = {}
    for parking in parkings:
        heads.setdefault(key_of(parking.record), parking)
    await rows.execute(
        """INSERT INTO parked_keys (consumer, topic, partition, key, rule, reason, retry_at)
           SELECT $1, k.topic, k.partition, k.key, k.rule, k.reason,
                  clock_timestamp() + make_interval(secs => k.seconds)
           FROM unnest($2::text[], $3::int[], $4::bytea[], $5::text[], $6::text[], $7::float[])
                AS k(topic, partition, key, rule, reason, seconds)
           ON CONFLICT DO NOTHING""",
        consumer,
        [k.partition.topic for k in heads],
        [k.partition.partition for k in heads],
        [k.key for k in heads],
        [p.rule for p in heads.values()],
        [p.reason for p in heads.values()],
        [p.retry_seconds for p in heads.values()],
    )
    records = [p.record for p in parkings]
    await rows.execute(
        """INSERT INTO parked_records (consumer, topic, partition, key, "offset", value, headers, timestamp_ms)
           SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bytea[], $5::bigint[], $6::bytea[], $7::bytea[],
                                    $8::bigint[])
           ON CONFLICT DO NOTHING""",
        consumer,
        [r.topic for r in records],
        [r.partition for r in records],
        [r.key or b"" for r in records],
        [r.offset for r in records],
        [r.value for r in records],
        [encode_headers(list(r.headers)) for r in records],
        [r.timestamp for r in records],
    )


async def block(rows: Rows, consumer: str, keys: Sequence[ParkedKey], rule: str) -> None:
    """Hold keys back until a person releases them; what comes is queued behind them."""
    await rows.execute(
        """INSERT INTO parked_keys (consumer, topic, partition, key, rule, reason, retry_at)
           SELECT $1, k.topic, k.partition, k.key, $5, 'held back until released', 'infinity'
           FROM unnest($2::text[], $3::int[], $4::bytea[]) AS k(topic, partition, key)
           ON CONFLICT (consumer, topic, partition, key) DO UPDATE
           SET rule = excluded.rule, reason = excluded.reason, retry_at = excluded.retry_at""",
        consumer,
        [k.partition.topic for k in keys],
        [k.partition.partition for k in keys],
        [k.key for k in keys],
        rule,
    )


async def parked_keys(database: Database, consumer: str, partitions: Iterable[Partition]) -> dict[ParkedKey, str]:
    """All keys that wait in these partitions, with the rule they wait for."""
    listed = list(partitions)
    found = await database.fetch(
        """SELECT topic, partition, key, rule FROM parked_keys
           WHERE consumer = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]))""",
        consumer,
        [p.topic for p in listed],
        [p.partition for p in listed],
    )
    return {ParkedKey(Partition(row["topic"], row["partition"]), bytes(row["key"])): row["rule"] for row in found}


async def due_keys(database: Database, consumer: str, partitions: Iterable[Partition], limit: int) -> list[ParkedKey]:
    """The keys whose next attempt is due, longest waiting first."""
    listed = list(partitions)
    found = await database.fetch(
        """SELECT topic, partition, key FROM parked_keys
           WHERE consumer = $1 AND (topic, partition) IN (SELECT * FROM unnest($2::text[], $3::int[]))
             AND retry_at <= clock_timestamp() ORDER BY since LIMIT $4""",
        consumer,
        [p.topic for p in listed],
        [p.partition for p in listed],
        limit,
    )
    return [ParkedKey(Partition(row["topic"], row["partition"]), bytes(row["key"])) for row in found]


async def queued_records(database: Database, consumer: str, key: ParkedKey, limit: int) -> list[StoredRecord]:
    """The oldest records behind a key."""
    found = await database.fetch(
        """SELECT "offset", value, headers, timestamp_ms FROM parked_records
           WHERE consumer = $1 AND topic = $2 AND partition = $3 AND key = $4 ORDER BY "offset" LIMIT $5""",
        consumer,
        *key.partition,
        key.key,
        limit,
    )
    return [
        StoredRecord(
            *key.partition, row["offset"], key.key, row["value"], decode_headers(row["headers"]), row["timestamp_ms"]
        )
        for row in found
    ]


async def remove_record(rows: Rows, consumer: str, record: Record) -> None:
    """The record was applied or buried."""
    await rows.execute(
        """DELETE FROM parked_records
           WHERE consumer = $1 AND topic = $2 AND partition = $3 AND key = $4 AND "offset" = $5""",
        consumer,
        record.topic,
        record.partition,
        record.key or b"",
        record.offset,
    )


async def free_if_empty(rows: Rows, consumer: str, key: ParkedKey) -> bool:
    """Let the key flow again if nothing is queued behind it; whether it does."""
    return bool(
        await rows.execute(
            """DELETE FROM parked_keys AS k WHERE consumer = $1 AND topic = $2 AND partition = $3 AND key = $4
               AND NOT EXISTS (SELECT 1 FROM parked_records AS r WHERE r.consumer = k.consumer AND r.topic = k.topic
                               AND r.partition = k.partition AND r.key = k.key)""",
            consumer,
            *key.partition,
            key.key,
        )
    )


async def postpone(rows: Rows, consumer: str, key: ParkedKey, rule: str, reason: str) -> None:
    """The attempt failed: wait twice as long as before."""
    attempts = await rows.fetchval(
        """UPDATE parked_keys SET attempts = attempts + 1, rule = $5, reason = $6
           WHERE consumer = $1 AND topic = $2 AND partition = $3 AND key = $4 RETURNING attempts""",
        consumer,
        *key.partition,
        key.key,
        rule,
        reason,
    )
    await rows.execute(
        """UPDATE parked_keys SET retry_at = clock_timestamp() + make_interval(secs => $5)
           WHERE consumer = $1 AND topic = $2 AND partition = $3 AND key = $4""",
        consumer,
        *key.partition,
        key.key,
        retry_pause_seconds(attempts or 0),
    )


async def release(database: Database, consumer: str, topic: str, key: bytes) -> int:
    """Let a key be tried again at once, whatever it waits for; how many keys that were."""
    found = await database.fetch(
        """UPDATE parked_keys SET retry_at = clock_timestamp() WHERE consumer = $1 AND topic = $2 AND key = $3
           RETURNING key""",
        consumer,
        topic,
        key,
    )
    return len(found)
