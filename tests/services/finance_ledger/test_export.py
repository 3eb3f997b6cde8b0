"""The journal as other programs read it."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
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
        one_by_one = [row async for some in journal(here.database, at_once=1) for row in some]
        assert one_by_one == rows, "an entry of several lines is longer than what is read at once"
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


async def test_the_command_writes_the_journal_to_a_file(database_url: str, tmp_path: Path) -> None:
    async with ledger(database_url, tmp_path) as here:
        await here.sell(1)
        await here.read()
        lines = await here.database.fetchval("SELECT count(*) FROM journal")

    command = [sys.executable, "-m", "bridge", "ledger", "export", "--output", str(tmp_path / "journal.csv")]
    places = {"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    exporting = await asyncio.create_subprocess_exec(*command, env=os.environ | places)
    assert await exporting.wait() == 0
    heading, *written_lines = (tmp_path / "journal.csv").read_text().splitlines()
    assert heading == ",".join(COLUMNS)
    assert len(written_lines) == lines > 0
