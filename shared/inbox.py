"""First time or not: which events of a batch have not been applied yet.

Two guards. On topics that are dropped some day, ids are claimed, in partitions by the day of the
event's own time: by our day, the same id would be new again after midnight. On topics kept for ever the
newest sequence of each source and key is kept instead, and never dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from shared.database import Database, Rows, patiently
from shared.handlers import Received


async def unclaimed(rows: Rows, consumer: str, events: Sequence[Received[Any]]) -> list[bool]:
    """Claim the events' ids; for each event whether this was the first time, also within the batch."""
    names = [(e.envelope.time.date(), e.envelope.source, e.envelope.id) for e in events]
    # Sorted, so that two transactions that claim the same ids queue up rather than deadlock.
    ordered = sorted(set(names))
    claimed = await rows.fetch(
        """INSERT INTO inbox (consumer, day, source, id) SELECT $1, * FROM unnest($2::date[], $3::text[], $4::text[])
           ON CONFLICT DO NOTHING RETURNING day, source, id""",
        consumer,
        [n[0] for n in ordered],
        [n[1] for n in ordered],
        [n[2] for n in ordered],
    )
    new = {(row["day"], row["source"], row["id"]) for row in claimed}
    first = []
    for name in names:
        first.append(name in new)
        new.discard(name)
    return first


async def newer(rows: Rows, consumer: str, events: Sequence[Received[Any]]) -> list[bool]:
    """For each event whether its sequence exceeds everything applied for its source and key; keeps the newest."""
    keys = sorted({(e.topic, e.envelope.source, e.event.key) for e in events})
    columns = [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys]
    found = await rows.fetch(
        """SELECT topic, source, key, sequence FROM applied_sequences
           WHERE consumer = $1 AND (topic, source, key) IN (SELECT * FROM unnest($2::text[], $3::text[], $4::text[]))
           ORDER BY topic, source, key FOR UPDATE""",
        consumer,
        *columns,
    )
    newest = {(row["topic"], row["source"], row["key"]): row["sequence"] for row in found}
    is_newer = []
    for event in events:
        key = (event.topic, event.envelope.source, event.event.key)
        is_newer.append(event.envelope.sequence > newest.get(key, -1))
        if is_newer[-1]:
            newest[key] = event.envelope.sequence
    await rows.execute(
        """INSERT INTO applied_sequences (consumer, topic, source, key, sequence)
           SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[])
           ON CONFLICT (consumer, topic, source, key) DO UPDATE SET sequence = excluded.sequence
           WHERE applied_sequences.sequence < excluded.sequence""",
        consumer,
        *columns,
        [newest[k] for k in keys],
    )
    return is_newer


def horizon(now: datetime, retention: timedelta) -> date:
    """Days before this one can be dropped: nothing on the topic is as old, with two days to spare."""
    return (now - retention).date() - timedelta(days=2)


async def make_days(database: Database, days: Sequence[date]) -> None:
    """Make room for claims of these days; harmless where it exists and when several do it at once."""

    async def attempt(end_blockers: bool) -> None:
        async with database.transaction(end_blockers=end_blockers) as rows:
            await rows.execute("SELECT pg_advisory_xact_lock(hashtext('inbox of ' || current_schema()))")
            for day in sorted(days):
                await rows.execute(
                    f"CREATE TABLE IF NOT EXISTS inbox_{day:%Y%m%d} PARTITION OF inbox "
                    f"FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
                )

    await patiently(attempt)


async def drop_days(database: Database, before: date) -> list[str]:
    """Drop the claims of all days before; the names of the tables that went."""
    found = await database.fetch(
        """SELECT c.relname AS name FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
           WHERE i.inhparent = 'inbox'::regclass AND c.relname < $1 ORDER BY 1""",
        f"inbox_{before:%Y%m%d}",
    )
    names = [str(row["name"]) for row in found]
    for name in names:
        await database.execute(f'DROP TABLE IF EXISTS "{name}"')
    return names
