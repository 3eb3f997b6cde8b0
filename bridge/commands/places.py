"""What commands share: the database, the services' schemas in it, and how results are shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from shared.database import Database
from shared.errors import BridgeError
from shared.settings import from_environment

T = TypeVar("T")


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; what goes wrong on purpose is said in one line, with exit status 1."""
    try:
        return asyncio.run(command)
    except BridgeError as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(1) from error


@asynccontextmanager
async def schema_of(service: str) -> AsyncIterator[Database]:
    """The schema of a service, named as people name it: `order-ingestor`."""
    settings = from_environment()
    database = await Database.connect(
        settings.database_url, service.replace("-", "_"), application="bridge", connections=2
    )
    async with database:
        yield database


async def schemas_with(database_url: str, table: str) -> list[str]:
    """The services that have a table of this name, by their names outside."""
    async with await Database.connect(database_url, "public", application="bridge", connections=1) as database:
        found = await database.fetch("SELECT schemaname FROM pg_tables WHERE tablename = $1 ORDER BY schemaname", table)
    return [str(row["schemaname"]).replace("_", "-") for row in found]


def show(title: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """A table for people, or one JSON array for programs."""
    if as_json:
        typer.echo(json.dumps([{c: _plain(row[c]) for c in columns} for row in rows]))
        return
    table = Table(*[c.replace("_", " ") for c in columns], title=title)
    for row in rows:
        table.add_row(*[_text(row[c]) for c in columns])
    Console().print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return _text(value) if isinstance(value, bytes | memoryview) else value


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case bytes() | memoryview():
            return bytes(value).decode(errors="replace")
        case _:
            return str(value)
