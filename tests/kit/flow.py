"""A small service made of the mechanism: consume, state, outbox, relay, consume.

`forwarder` reads `stock-levels` (its ids are claimed), counts per product and publishes one mapping per
level; `follower` reads `mappings` (kept for ever, so its sequences are kept) and writes down what it
applied. Numbers 1, 2, 3 … per key make a loss, a double or a wrong order visible in applied state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from shared.codec import encode
from shared.database import Database
from shared.envelope import Envelope, to_headers
from shared.events.base import Event, schema_uri
from shared.events.control import MappingSet
from shared.events.stock import StockLevelReported
from shared.handlers import Handlers, Received, react, react_batch
from shared.outbox import Transaction, event_id
from shared.topics import topic_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)

TABLES = """
CREATE TABLE IF NOT EXISTS counters (key text PRIMARY KEY, version bigint NOT NULL, last bigint NOT NULL);
CREATE TABLE IF NOT EXISTS applied (
    row bigint GENERATED ALWAYS AS IDENTITY, consumer text NOT NULL, key text NOT NULL, n bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


@dataclass
class FixedClock:
    """Business time that stands still unless a test moves it."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at


def level(key: str, n: int, at: datetime = NOW) -> StockLevelReported:
    """The n-th fact about a product."""
    return StockLevelReported(product_id=key, place="main", place_kind="group", as_of=at, ats=Decimal(n))


def mapping(key: str, n: int, at: datetime = NOW) -> MappingSet:
    """The n-th fact about a mapping."""
    return MappingSet(marketplace="m", kind="sku", left=key, right=str(n), by="u-1", at=at)


def record_parts(
    event: Event, sequence: int, *, source: str = "/test", time: datetime = NOW, id: str | None = None
) -> tuple[str, str, bytes, list[tuple[str, bytes]]]:
    """Topic, key, value and headers of an event as a record."""
    topic = topic_of(type(event)).name
    envelope = Envelope(
        id=id or event_id(topic, event.key, sequence),
        source=source,
        type=event.TYPE,
        time=time,
        subject=event.key,
        sequence=sequence,
        dataschema=schema_uri(type(event)),
    )
    return topic, event.key, encode(event), to_headers(envelope)


async def count_and_forward(received: Received[StockLevelReported], tx: Transaction) -> None:
    """Apply one level: count it, write it down, publish one mapping."""
    key, n = received.event.product_id, int(received.event.ats)
    row = await tx.fetchrow(
        """INSERT INTO counters AS c (key, version, last) VALUES ($1, 1, $2)
           ON CONFLICT (key) DO UPDATE SET version = c.version + 1, last = $2 RETURNING version""",
        key,
        n,
    )
    assert row is not None  # an upsert always returns its row
    await tx.execute("INSERT INTO applied (consumer, key, n) VALUES ('forwarder', $1, $2)", key, n)
    tx.publish(mapping(key, n), sequence=row["version"], cause=received)


async def count_and_forward_batch(events: Sequence[Received[StockLevelReported]], tx: Transaction) -> None:
    """The same for a batch, in two statements."""
    versions: dict[str, int] = {}
    keys = sorted({e.event.product_id for e in events})
    for row in await tx.fetch("SELECT key, version FROM counters WHERE key = ANY($1) ORDER BY key FOR UPDATE", keys):
        versions[row["key"]] = row["version"]
    lasts: dict[str, int] = {}
    for received in events:
        key, n = received.event.product_id, int(received.event.ats)
        versions[key] = versions.get(key, 0) + 1
        lasts[key] = n
        tx.publish(mapping(key, n), sequence=versions[key], cause=received)
    await tx.execute(
        """INSERT INTO counters AS c (key, version, last) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
           ON CONFLICT (key) DO UPDATE SET version = excluded.version, last = excluded.last""",
        keys,
        [versions[k] for k in keys],
        [lasts[k] for k in keys],
    )
    await tx.execute(
        "INSERT INTO applied (consumer, key, n) SELECT 'forwarder', * FROM unnest($1::text[], $2::bigint[])",
        [e.event.product_id for e in events],
        [int(e.event.ats) for e in events],
    )


async def write_down(received: Received[MappingSet], tx: Transaction) -> None:
    """Apply one mapping."""
    await tx.execute(
        "INSERT INTO applied (consumer, key, n) VALUES ('follower', $1, $2)",
        received.event.left,
        int(received.event.right),
    )


def forwarder() -> Handlers:
    """Reads `stock-levels` one by one."""
    return Handlers(react(StockLevelReported, count_and_forward))


def batch_forwarder() -> Handlers:
    """Reads `stock-levels` in batches."""
    return Handlers(react_batch(StockLevelReported, count_and_forward_batch))


def follower() -> Handlers:
    """Reads `mappings`."""
    return Handlers(react(MappingSet, write_down))


async def applied(database: Database, consumer: str = "forwarder") -> dict[str, list[int]]:
    """What a consumer applied, per key in the order it did."""
    found: dict[str, list[int]] = {}
    for row in await database.fetch("SELECT key, n FROM applied WHERE consumer = $1 ORDER BY row", consumer):
        found.setdefault(row["key"], []).append(row["n"])
    return found


YESTERDAY = NOW - timedelta(days=1)
