"""The journal as other programs read it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

from services.finance_ledger.export import COLUMNS, journal, written
from tests.services.finance_ledger.kit import ledger


async def test_every_format_tells_the_whole_journal_and_each_entry_balances(database_url: str, tmp_path: Path) -> None:
    async with ledger(database_url, tmp_path) as here:
        [order, *_] = await here.sell(3)
        await here.pay_out()
        await here.read()
        rows = [row async for some in journal(here.database, at_once=4) for row in some]

        assert len(rows) == await here.database.fetchval("SELECT count(*) FROM journal") == 13
        assert [
            dict(zip(COLUMNS, line, strict=True))["type"] for line in csv.reader(written(rows, "csv").splitlines())
        ] == [row["type"] for row in rows]
        assert [json.loads(line)["amount"] for line in written(rows, "json").splitlines()] == [
            str(row["amount"]) for row in rows
        ]
        entries = written(rows, "hledger").strip().split("\n\n")
        assert len(entries) == 13
        assert sum(f"order {order}" in entry for entry in entries) == 4
        for entry in entries:
            _, *sides = entry.splitlines()
            sums: Counter[str] = Counter()
            for side in sides:
                _, amount, currency = side.split()
                sums[currency] += Decimal(amount)  # type: ignore[assignment]
            assert set(sums.values()) == {Decimal(0)}
