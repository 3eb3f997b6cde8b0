"""`bridge ledger export`: the journal that finance-ledger keeps, for other programs."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bridge.commands.places import run, schema_of
from services.finance_ledger.export import Format, heading, journal, written
from shared.topics import LEDGER

app = typer.Typer(help="What finance-ledger has booked.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group also while it has one command only."""


@app.command("export")
def export(
    form: Annotated[Format, typer.Option("--format", help="hledger is the plain text that ledger reads too.")] = "csv",
    output: Annotated[Path | None, typer.Option(help="A file to write; standard output unless given.")] = None,
) -> None:
    """Write the whole journal, every entry in one piece, amounts as the marketplace sent them."""
    run(_export(form, output))


async def _export(form: Format, output: Path | None) -> None:
    async with schema_of(LEDGER) as database:
        with (
            output.open("w", encoding="utf-8") if output else nullcontext(sys.stdout) as out,
            Console(stderr=True).status("exporting") as status,
        ):
            out.write(heading(form))
            lines = 0
            async for rows in journal(database):
                out.write(written(rows, form))
                lines += len(rows)
                status.update(f"exporting: {lines:,} lines")
