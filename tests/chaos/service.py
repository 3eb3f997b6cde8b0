"""The service that chaos hits: consume, state, outbox, relay, consume, owe; one process per replica.

`forwarder` reads `stock-levels` and publishes one mapping per level; `follower` reads `mappings`, and owes a
remote system effects for some of them. Both write down every fact they apply in `facts`, which has no
constraint on purpose: a double must show.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial

from shared import lifecycle
from shared.clock import BusinessClock
from shared.consumer import Consumer
from shared.database import Database, migrate
from shared.events.cases import CaseOpened
from shared.events.control import MappingSet
from shared.events.dead_letters import RecordDeadLettered
from shared.events.stock import StockLevelReported
from shared.handlers import Handlers, Received, react_batch
from shared.kafka import BatchProducer, KafkaConsumer
from shared.obligations import Kind, Obligations
from shared.outbox import Outbox, Transaction
from shared.relay import Relay
from shared.settings import Settings, from_environment
from shared.topics import topic_of
from tests.kit.owing import BRISK, Effect, kinds_of, open_client, owe_effects
from tests.kit.owing import TABLES as OWING_TABLES

SCHEMA = "chaos"
SESSION_SECONDS = 6.0
"""The broker's least; everything that frees locks is below it."""

OWED_EVERY = 40
"""One fact in so many makes us owe an effect of each kind."""

INPUT, MIDDLE, DEAD, CASES = (topic_of(t) for t in (StockLevelReported, MappingSet, RecordDeadLettered, CaseOpened))

TABLES = """
CREATE TABLE IF NOT EXISTS facts (
    row bigint GENERATED ALWAYS AS IDENTITY, consumer text NOT NULL, key text NOT NULL, n bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS seen (
    consumer text NOT NULL, key text NOT NULL, version bigint NOT NULL, last bigint NOT NULL,
    PRIMARY KEY (consumer, key)
) WITH (fillfactor = 50);
"""


async def prepare(database_url: str) -> None:
    """The schema, once before the replicas start."""
    await migrate(database_url, SCHEMA)
    async with await Database.connect(database_url, SCHEMA, application="chaos", connections=1) as database:
        for statement in (TABLES + OWING_TABLES).split(";")[:-1]:
            await database.execute(statement)


async def write_down(tx: Transaction, consumer: str, facts: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Note the facts in their order; each key's version before them."""
    keys = sorted({key for key, _ in facts})
    rows = await tx.fetch(
        "SELECT key, version FROM seen WHERE consumer = $1 AND key = ANY($2) ORDER BY key FOR UPDATE", consumer, keys
    )
    before = dict.fromkeys(keys, 0) | {row["key"]: row["version"] for row in rows}
    versions, lasts = dict(before), {}
    for key, n in facts:
        versions[key] += 1
        lasts[key] = n
    await tx.execute(
        "INSERT INTO facts (consumer, key, n) SELECT $1, * FROM unnest($2::text[], $3::bigint[])",
        consumer,
        [key for key, _ in facts],
        [n for _, n in facts],
    )
    await tx.execute(
        """INSERT INTO seen (consumer, key, version, last)
           SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[])
           ON CONFLICT (consumer, key) DO UPDATE SET version = excluded.version, last = excluded.last""",
        consumer,
        keys,
        [versions[k] for k in keys],
        [lasts[k] for k in keys],
    )
    return before


async def forward(events: Sequence[Received[StockLevelReported]], tx: Transaction) -> None:
    """Apply levels, publish one mapping for each."""
    facts = [(e.event.product_id, int(e.event.ats)) for e in events]
    versions = await write_down(tx, "forwarder", facts)
    now = datetime.now(UTC)
    for received, (key, n) in zip(events, facts, strict=True):
        versions[key] += 1
        mapping = MappingSet(marketplace="m", kind="sku", left=key, right=str(n), by="u-1", at=now)
        tx.publish(mapping, sequence=versions[key], cause=received)


async def follow(kinds: Sequence[Kind[Effect]], events: Sequence[Received[MappingSet]], tx: Transaction) -> None:
    """Apply mappings, and owe what follows from some of them."""
    facts = [(e.event.left, int(e.event.right)) for e in events]
    await write_down(tx, "follower", facts)
    some = [(key, n) for key, n in facts if n % OWED_EVERY == 0]
    names = [f"{key}-{n}" for key, n in some]
    if some:
        await owe_effects(tx, kinds, guarded=names, states=dict(some), unguarded=names)


async def serve(settings: Settings, name: str, remote_url: str, stop: asyncio.Event) -> None:
    """One replica: two consumers, a relay and a worker of obligations beside each other."""
    holder = f"{name}-{os.getpid()}"
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            await Database.connect(settings.database_url, SCHEMA, application=name, connections=5)
        )
        # Under a name of its own, so that the harness can tell a batch in flight from what is owed.
        owing = await stack.enter_async_context(
            await Database.connect(settings.database_url, SCHEMA, application=f"{name}-owing", connections=5)
        )
        client = await stack.enter_async_context(open_client(remote_url))
        kinds = kinds_of(client)
        clock = BusinessClock()
        await clock.synchronize(database)
        outbox = Outbox(database, SCHEMA, clock)

        def consumer(group: str, handlers: Handlers) -> Consumer:
            def connect() -> KafkaConsumer:
                return KafkaConsumer(
                    settings.kafka,
                    group,
                    [topic.name for topic in handlers.topics],
                    client_id=holder,
                    instance_id=f"{group}-{name}",
                    session_timeout_seconds=SESSION_SECONDS,
                )

            return Consumer(group, holder, handlers, outbox, connect)

        forwarder = consumer("forwarder", Handlers(react_batch(StockLevelReported, forward)))
        follower = consumer("follower", Handlers(react_batch(MappingSet, partial(follow, kinds))))
        obligations = Obligations(Outbox(owing, SCHEMA, clock), kinds, holder, pace=BRISK)
        relay = Relay(outbox, [MIDDLE, DEAD, CASES], holder, lambda: BatchProducer(settings.kafka, client_id=holder))
        await lifecycle.run_loops(
            stop,
            {
                "clock": lambda end: clock.run(database, end),
                "forwarder": forwarder.run,
                "follower": follower.run,
                "relay": relay.run,
                "obligations": obligations.run,
            },
        )


if __name__ == "__main__":
    _, NAME, REMOTE_URL = sys.argv
    lifecycle.run(lambda stop: serve(from_environment(), NAME, REMOTE_URL, stop), drain_seconds=5.0)
