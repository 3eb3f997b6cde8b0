"""The full path, ours beside bare clients: consume, guarded upsert, outbox, offsets, relay.

Both read the same records from the same topic and write the same values to the same topic; every event
yields one. `bare` is what an engineer would write with aiokafka and asyncpg alone, in batches and with
the same guarantees inside one process: no epochs, leases, envelopes, validation, traces or metrics.
The two take turns in processes of their own, and the medians are compared.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from shared.codec import encode
from shared.consumer import Consumer
from shared.database import Database, migrate
from shared.envelope import Envelope, to_headers
from shared.events.base import schema_uri
from shared.events.stock import OfferStockSubmitted, StockLevelReported
from shared.handlers import Handlers, Received, react_batch
from shared.kafka import Address, BatchProducer, KafkaConsumer, ensure_topics
from shared.lifecycle import tune_garbage_collection
from shared.outbox import Outbox, Transaction
from shared.relay import Relay
from shared.telemetry import new_traceparent
from shared.topics import topic_of

KEYS = 20_000
BATCH = 1_000
INPUT = topic_of(StockLevelReported)
OUTPUT = topic_of(OfferStockSubmitted)
START = datetime(2026, 1, 1, tzinfo=UTC)

LEVELS = """CREATE TABLE levels (
    product_id text PRIMARY KEY, sequence bigint NOT NULL, quantity numeric NOT NULL, version bigint NOT NULL
) WITH (fillfactor = 50)"""


@dataclass(frozen=True)
class _BenchClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


async def preload(bootstrap: str, events: int) -> None:
    """Put the input on its topic, stamped as the product stamps it: one in a hundred is traced."""
    await ensure_topics(Address(bootstrap), [INPUT, OUTPUT])
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=262_144, compression_type="lz4"
    )
    await producer.start()
    for n in range(events):
        key = f"SKU-{n % KEYS:07d}"
        event = StockLevelReported(product_id=key, place="main", place_kind="group", as_of=START, ats=Decimal(n % 500))
        sequence = n // KEYS + 1
        headers = to_headers(
            Envelope(
                id=f"stock-levels/{key}/{sequence}",
                source="/bench",
                type=event.TYPE,
                time=START,
                subject=key,
                sequence=sequence,
                dataschema=schema_uri(StockLevelReported),
                traceparent=new_traceparent(sampled=n % 100 == 0),
            )
        )
        await producer.send(INPUT.name, key=key.encode(), value=encode(event), headers=headers)
    await producer.stop()


def submitted(product_id: str, quantity: Decimal, import_id: str) -> OfferStockSubmitted:
    """What one level becomes, in both runs."""
    return OfferStockSubmitted(
        marketplace="bench",
        shop="1",
        shop_sku=product_id,
        quantity=int(quantity),
        as_of=START,
        import_id=import_id,
        submitted_at=START,
    )


async def fold_levels(events: Sequence[Received[StockLevelReported]], tx: Transaction) -> None:
    """Keep the newest level of each product and publish what it becomes."""
    rows = await tx.fetch(
        """INSERT INTO levels AS l (product_id, sequence, quantity, version)
           SELECT p, s, q, 1 FROM unnest($1::text[], $2::bigint[], $3::numeric[]) AS u(p, s, q)
           ON CONFLICT (product_id) DO UPDATE
           SET sequence = excluded.sequence, quantity = excluded.quantity, version = l.version + 1
           WHERE l.sequence < excluded.sequence RETURNING product_id, quantity, version""",
        [e.event.product_id for e in events],
        [e.envelope.sequence for e in events],
        [e.event.ats for e in events],
    )
    causes = {e.event.product_id: e for e in events}
    for row in rows:
        tx.publish(
            submitted(row["product_id"], row["quantity"], "1"), sequence=row["version"], cause=causes[row["product_id"]]
        )


async def full(bootstrap: str, database_url: str, events: int) -> float:
    """Seconds that our mechanism takes for all events."""
    await migrate(database_url, "full")
    database = await Database.connect(database_url, "full", application="bench-full")
    await database.execute(LEVELS)
    outbox = Outbox(database, "bench", _BenchClock())
    address = Address(bootstrap)
    group = f"bench-{time.time_ns()}"
    relay = Relay(outbox, [OUTPUT], group, lambda: BatchProducer(address, client_id=group))
    consumer = Consumer(
        group,
        group,
        Handlers(react_batch(StockLevelReported, fold_levels, guard="state")),
        outbox,
        lambda: KafkaConsumer(address, group, [INPUT.name], client_id=group),
    )
    stop = asyncio.Event()
    loops = [asyncio.create_task(relay.run(stop)), asyncio.create_task(consumer.run(stop))]
    # Joining the group is over once and for all; the bare run has no group and starts ready, too.
    while not consumer.held and not any(loop.done() for loop in loops):
        await asyncio.sleep(0.001)
    started = time.perf_counter()
    while relay.sent_count < events and not any(loop.done() for loop in loops):
        await asyncio.sleep(0.02)
    seconds = time.perf_counter() - started
    stop.set()
    await asyncio.gather(*loops)
    await database.close()
    if relay.sent_count != events or consumer.counts.applied != events:
        raise RuntimeError(f"sent {relay.sent_count}, applied {consumer.counts.applied} of {events}")
    return seconds


BARE_TABLES = """
CREATE TABLE levels (product_id text PRIMARY KEY, sequence bigint NOT NULL, quantity numeric NOT NULL, version bigint
                     NOT NULL) WITH (fillfactor = 50);
CREATE TABLE outbox (id bigserial PRIMARY KEY, key text NOT NULL, value bytea NOT NULL);
CREATE TABLE offsets (partition integer PRIMARY KEY, next_offset bigint NOT NULL) WITH (fillfactor = 50);
"""


async def bare(bootstrap: str, database_url: str, events: int) -> float:
    """Seconds that the same steps take with bare clients."""
    pool = await asyncpg.create_pool(database_url, min_size=4, max_size=4)
    await pool.execute(BARE_TABLES)
    partitions = [TopicPartition(INPUT.name, p) for p in range(INPUT.partitions)]
    await pool.executemany("INSERT INTO offsets VALUES ($1, 0)", [(p.partition,) for p in partitions])
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed")
    await consumer.start()
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", linger_ms=5, max_batch_size=131_072,
        compression_type="lz4",
    )  # fmt: skip
    await producer.start()
    decoder = msgspec.json.Decoder(StockLevelReported)
    encoder = msgspec.json.Encoder()
    consumed = sent = 0
    written = asyncio.Event()

    async def consume() -> None:
        nonlocal consumed
        while consumed < events:
            found = await consumer.getmany(timeout_ms=250, max_records=BATCH)
            records = [record for batch in found.values() for record in batch]
            if not records:
                continue
            levels = [decoder.decode(record.value) for record in records]
            async with pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(
                    """INSERT INTO levels AS l (product_id, sequence, quantity, version)
                       SELECT p, s, q, 1 FROM unnest($1::text[], $2::bigint[], $3::numeric[]) AS u(p, s, q)
                       ON CONFLICT (product_id) DO UPDATE
                       SET sequence = excluded.sequence, quantity = excluded.quantity, version = l.version + 1
                       WHERE l.sequence < excluded.sequence RETURNING product_id, quantity, version""",
                    [level.product_id for level in levels],
                    [record.offset + 1 for record in records],
                    [level.ats for level in levels],
                )
                out = [submitted(row["product_id"], row["quantity"], "1") for row in rows]
                await connection.execute(
                    "INSERT INTO outbox (key, value) SELECT * FROM unnest($1::text[], $2::bytea[])",
                    [event.key for event in out],
                    [encoder.encode(event) for event in out],
                )
                await connection.execute(
                    """UPDATE offsets SET next_offset = n.o FROM unnest($1::int[], $2::bigint[]) AS n(p, o)
                       WHERE partition = n.p""",
                    [p.partition for p in found],
                    [batch[-1].offset + 1 for batch in found.values()],
                )
            consumed += len(records)
            written.set()

    async def relay() -> None:
        nonlocal sent
        while sent < events:
            written.clear()
            rows = await pool.fetch("SELECT id, key, value FROM outbox ORDER BY id LIMIT 2000")
            if not rows:
                await written.wait()
                continue
            waiting = [await producer.send(OUTPUT.name, key=r["key"].encode(), value=r["value"]) for r in rows]
            await asyncio.gather(*waiting)
            await pool.execute("DELETE FROM outbox WHERE id = ANY($1)", [r["id"] for r in rows])
            sent += len(rows)

    started = time.perf_counter()
    await asyncio.gather(consume(), relay())
    seconds = time.perf_counter() - started
    await consumer.stop()
    await producer.stop()
    await pool.close()
    return seconds


def work(which: str, bootstrap: str, database_url: str, events: int) -> dict[str, Any]:
    """One run in this process: events per second, and the most memory it had.

    `bare-as-written` is the bare run under Python's own settings for garbage collection; the other two
    have those that every service of ours runs with.
    """
    if which != "bare-as-written":
        tune_garbage_collection()
    seconds = uvloop.run({"full": full, "bare": bare, "bare-as-written": bare}[which](bootstrap, database_url, events))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = used.ru_utime + used.ru_stime
    return {"per_second": events / seconds, "rss_mb": used.ru_maxrss / 1024, "cpu_us": cpu_seconds / events * 1e6}


if __name__ == "__main__":
    _, which, bootstrap, database_url, events = sys.argv
    print(json.dumps(work(which, bootstrap, database_url, int(events))))
