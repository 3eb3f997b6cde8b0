"""What stands still is measured too: lag, what waits in the outbox, keys that wait, consumers that stopped,
dead letters, what people are asked, accounts that are closed off.

Dead letters are read from the table, not counted as they come: a count that is lost with its process, or seen for
the first time, raises no alert. Stopped consumers are told by every service, since their own is not there to do it.

One loop per process asks its own tables now and then; nothing here is on the way of a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from shared.consumer import Consumer
from shared.database import Database
from shared.errors import Transient
from shared.kafka import Address, Partition, edge_offsets
from shared.telemetry import Metrics, Readings

_EVERY_SECONDS = 15.0


async def measure(database: Database, told: Readings | None = None) -> None:
    """Read the tables once and set the gauges; `told` is the caller's, from one time to the next.

    Raises:
        Transient: PostgreSQL does not answer.
    """
    for row in await database.fetch(
        """SELECT b.topic, count(o.position) AS pending,
                  coalesce(extract(epoch FROM clock_timestamp() - min(o.written_at)), 0)::float AS age,
                  count(DISTINCT b.partition) FILTER (WHERE b.stuck_since IS NOT NULL) AS stuck
           FROM relay_buckets AS b LEFT JOIN outbox AS o USING (topic, partition) GROUP BY b.topic"""
    ):
        about = {"topic": row["topic"]}
        Metrics.outbox_pending.set(row["pending"], about)
        Metrics.outbox_age.set(row["age"], about)
        Metrics.stuck_buckets.set(row["stuck"], about)
    told = told or Readings()
    parked = await database.fetch("SELECT consumer, rule, count(*) AS keys FROM parked_keys GROUP BY consumer, rule")
    told.set(Metrics.parked_keys, [(row["keys"], {"consumer": row["consumer"], "rule": row["rule"]}) for row in parked])
    letters = await database.fetch(
        """SELECT consumer, topic, rule, count(*) AS letters
           FROM dead_letters, (SELECT business + (clock_timestamp() - real) * speed AS now FROM bridge.clock) AS clock
           WHERE buried_at > clock.now - interval '1 hour' GROUP BY consumer, topic, rule"""
    )
    told.set(
        Metrics.recent_dead_letters,
        [(row["letters"], {name: row[name] for name in ("consumer", "topic", "rule")}) for row in letters],
    )
    stopped = await database.fetch("SELECT consumer, count(*) AS stops FROM bridge.stopped_consumers GROUP BY consumer")
    told.set(Metrics.stops, [(row["stops"], {"consumer": row["consumer"]}) for row in stopped])
    for row in await database.fetch(
        "SELECT code, count(*) FILTER (WHERE closed_at IS NULL) AS open FROM cases GROUP BY code"
    ):
        Metrics.open_cases.set(row["open"], {"case_code": row["code"]})
    Metrics.breakers.set(await database.fetchval("SELECT count(*) FROM bridge.breakers WHERE opened_at IS NOT NULL"))


async def measure_lag(consumer: Consumer, address: Address, told: Readings) -> None:
    """Set the lag of the partitions that are this process's; of those it gave away others tell.

    Raises:
        Transient: Kafka does not answer.
    """
    held = dict(consumer.held)
    _, ends = await edge_offsets(address, sorted(held))
    lags: dict[str, int] = {}
    for partition, end in ends.items():
        lags[partition.topic] = lags.get(partition.topic, 0) + max(0, end - held[Partition(*partition)].next_offset)
    readings = [(lag, {"consumer": consumer.name, "topic": topic}) for topic, lag in lags.items()]
    told.set(Metrics.lag, readings, within=consumer.name)


async def run(
    database: Database, consumers: Sequence[Consumer], address: Address, beat: Callable[[], None], stop: asyncio.Event
) -> None:
    """Measure every quarter of a minute until `stop`; an outage leaves the last figures standing."""
    told = Readings()
    while not stop.is_set():
        beat()
        with suppress(Transient):
            await measure(database, told)
            for consumer in consumers:
                await measure_lag(consumer, address, told)
        with suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_SECONDS):
                await stop.wait()
