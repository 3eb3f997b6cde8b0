"""Which sources of stock are stale, what offers show meanwhile, and who is asked.

A source is a place of OCI that we read, or an outside producer whose silence the settings limit. One that was not read
or heard for longer than its limit is stale: its one case is opened and the offers of its places keep twice their
buffer back, until its next word. That is a row, so every replica knows it, and a restart forgets nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from shared.cases import close_cases, open_case
from shared.database import Database, Rows
from shared.outbox import Outbox, Transaction
from shared.telemetry import Metrics, Readings

log = structlog.get_logger(__name__)

STALE_CASE: Final = "stock-source-stale"
DUE: Final = timedelta(hours=1)
"""By when somebody should have looked."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who says what stock there is, and how long it may be silent."""

    name: str
    limit: timedelta
    places: tuple[str, ...] = ()
    """What it is known to speak for, as kind/name."""

    @property
    def about(self) -> str:
        """The source as cases name it."""
        return f"stock-source/{self.name.strip('/')}"


def is_stale(heard_at: datetime, now: datetime, limit: timedelta) -> bool:
    """Whether a source that was last read or heard then is stale now."""
    return now - heard_at > limit


@dataclass(slots=True)
class Sources:
    """The rows of all sources."""

    outbox: Outbox
    _readings: Readings = field(default_factory=Readings)

    async def note(self, source: Source, *, heard: bool, read_at: datetime | None = None) -> None:
        """A try to read the source has ended, or a look whether it was heard: it is stale now, or fresh.

        `read_at` is when a read that succeeded began. The first note of a source counts as heard: nobody can have
        missed it before.
        """
        async with self.outbox.transaction() as tx:
            row = await tx.fetchrow(
                """INSERT INTO stock_sources AS s (source, places, heard_at, read_at) VALUES ($1, $2, $3, $5)
                   ON CONFLICT (source) DO UPDATE SET read_at = coalesce(excluded.read_at, s.read_at),
                       places = ARRAY(SELECT DISTINCT unnest(s.places || excluded.places) ORDER BY 1),
                       heard_at = CASE WHEN $4 THEN greatest(s.heard_at, excluded.heard_at) ELSE s.heard_at END
                   RETURNING *""",
                source.name,
                sorted(source.places),
                tx.time,
                heard,
                read_at,
            )
            assert row is not None  # it was just written
            stale = is_stale(row["heard_at"], tx.time, source.limit)
            if stale and row["stale_since"] is None:
                await self._begin(tx, source, row)
            elif not stale and row["stale_since"] is not None:
                await self._end(tx, source, row)

    async def _begin(self, tx: Transaction, source: Source, row: Mapping[str, Any]) -> None:
        await tx.execute("UPDATE stock_sources SET stale_since = $2 WHERE source = $1", source.name, tx.time)
        await open_case(
            tx,
            STALE_CASE,
            about=source.about,
            due_at=tx.time + DUE,
            facts={
                "source": source.name,
                "not read since": row["heard_at"].isoformat(timespec="seconds"),
                "limit in minutes": f"{source.limit.total_seconds() / 60:g}",
                "places": ", ".join(row["places"]),
            },
        )
        log.warning("stock_source_stale", source=source.name)

    async def _end(self, tx: Transaction, source: Source, row: Mapping[str, Any]) -> None:
        await tx.execute("UPDATE stock_sources SET stale_since = NULL WHERE source = $1", source.name)
        log.info("stock_source_fresh", source=source.name)
        silent = row["heard_at"] - row["stale_since"]
        await close_cases(
            tx,
            about=source.about,
            code=STALE_CASE,
            explanation=f"It is read or heard again; it was stale for {silent.total_seconds() / 60:.0f} min.",
        )

    async def forget_others(self, names: Iterable[str]) -> None:
        """Sources that the settings do not name any more are nobody's worry."""
        async with self.outbox.transaction() as tx:
            rows = await tx.fetch("DELETE FROM stock_sources WHERE source <> ALL($1) RETURNING source", sorted(names))
            for row in rows:
                about = Source(row["source"], timedelta()).about
                why = "The source is not in the settings any more."
                await close_cases(tx, about=about, code=STALE_CASE, outcome="overtaken", explanation=why)

    async def tell_ages(self, now: datetime) -> None:
        """How old each source's last word is, for dashboards."""
        rows = await self.outbox.database.fetch("SELECT source, heard_at FROM stock_sources")
        ages = [((now - row["heard_at"]).total_seconds(), {"source": row["source"]}) for row in rows]
        self._readings.set(Metrics.source_age, ages)


async def is_degraded(rows: Rows | Database, place: str) -> bool:
    """Whether a stale source speaks for a place (kind/name)."""
    found: bool = await rows.fetchval(
        "SELECT EXISTS (SELECT 1 FROM stock_sources WHERE stale_since IS NOT NULL AND $1 = ANY(places))", place
    )
    return found
