"""How far something was read, stored with what it covers.

A cursor is the end of a period that was read without a gap, together with the question that was asked.
When the question changes (another state is read too), the old answer does not cover it, and reading
starts again where the new reader says. All times are the remote system's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import structlog

from shared.database import Database, Rows

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything that `covers` asks for was read from `since` to `until`."""

    covers: str
    """The question, in words that change when it does: `OR11 states=* limit=100`."""
    since: datetime
    until: datetime
    place: str | None = None
    """Where a reading that was interrupted goes on: a page token or the last id at `until`."""


async def read_cursor(rows: Rows | Database, name: str, covers: str) -> Cursor | None:
    """How far the question was read; nothing where it is a new one, or another than before."""
    row = await rows.fetchrow("SELECT covers, since, until, place FROM cursors WHERE name = $1", name)
    if row is None:
        return None
    if row["covers"] != covers:
        log.info("cursor_covers_another_question", source=name)
        return None
    return Cursor(row["covers"], row["since"], row["until"], row["place"])


async def move_cursor(rows: Rows, name: str, cursor: Cursor, time: datetime) -> bool:
    """Store how far was read, with the transaction that stores what was read; whether it is news.

    For the same question it never moves back: a replica that woke late changes nothing. Another question
    replaces the old one.
    """
    return bool(
        await rows.execute(
            """INSERT INTO cursors AS c (name, covers, since, until, place, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (name) DO UPDATE SET covers = excluded.covers, since = excluded.since,
                   until = excluded.until, place = excluded.place, updated_at = excluded.updated_at
               WHERE c.covers <> excluded.covers OR c.until <= excluded.until""",
            name,
            cursor.covers,
            cursor.since,
            cursor.until,
            cursor.place,
            time,
        )
    )
