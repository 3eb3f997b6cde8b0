"""The journal for other programs: CSV, JSON lines, or a plain-text journal that hledger and ledger read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Literal

from shared.database import Database

Format = Literal["csv", "json", "hledger"]
COLUMNS: Final = (
    *("marketplace", "shop", "booked_at", "entry_id", "number", "type", "order_id"),
    *("debit_account", "credit_account", "amount", "currency"),
)
_AT_ONCE: Final = 5_000

Row = Mapping[str, Any]


def heading(form: Format) -> str:
    """What stands before the first row."""
    return ",".join(COLUMNS) + "\n" if form == "csv" else ""


def written(rows: Iterable[Row], form: Format) -> str:
    """Rows of the journal, in their order, as text. Amounts are written as they were sent."""
    match form:
        case "csv":
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([_plain(row[name]) for name in COLUMNS] for row in rows)
            return text.getvalue()
        case "json":
            return "".join(json.dumps({name: _plain(row[name]) for name in COLUMNS}) + "\n" for row in rows)
        case "hledger":
            groups = groupby(rows, lambda row: (row["marketplace"], row["entry_id"]))
            return "".join(_entry(list(group)) for _, group in groups)


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, int) else str(value)


def _entry(rows: Sequence[Row]) -> str:
    """One entry: date, code, description, and a line per side."""
    first = rows[0]
    of = f" | order {first['order_id']}" if first["order_id"] else ""
    lines = [f"{first['booked_at']:%Y-%m-%d} ({first['entry_id']}) {first['type']}{of}"]
    for row in rows:
        for account, sign in ((row["debit_account"], ""), (row["credit_account"], "-")):
            name = f"{row['marketplace']}:{row['shop']}:{account}"
            lines.append(f"    {name}  {sign}{row['amount']} {row['currency']}")
    return "\n".join(lines) + "\n\n"


async def journal(database: Database, *, at_once: int = _AT_ONCE) -> AsyncIterator[Sequence[Row]]:
    """The whole journal in the order of its entries, some rows at a time; an entry is never torn apart."""
    last = ("", "")
    while True:
        rows = await database.fetch(
            """SELECT * FROM journal WHERE (marketplace, entry_id) > ($1, $2)
               ORDER BY marketplace, entry_id, number LIMIT $3""",
            *last,
            at_once,
        )
        if len(rows) == at_once:
            # The last entry may go on behind the limit: it comes with the next rows.
            torn = rows[-1]["marketplace"], rows[-1]["entry_id"]
            whole = [row for row in rows if (row["marketplace"], row["entry_id"]) != torn]
            if not whole:
                at_once *= 2
                continue
            rows = whole
        if not rows:
            return
        yield rows
        last = rows[-1]["marketplace"], rows[-1]["entry_id"]
