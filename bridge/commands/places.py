"""What commands share: the database, the services' schemas in it, and how results are shown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, TypeVar

import structlog
import typer
from rich.console import Console
from rich.table import Table

from shared.database import Database
from shared.errors import BridgeError, Fatal
from shared.settings import from_environment

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Service = Annotated[str | None, typer.Option("--service", help="Whose consumer it is, where several have it.")]


def run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; what goes wrong on purpose is said in one line, with exit status 1.

    What libraries and mechanism log goes to standard error: standard output is the command's answer.
    """
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        return asyncio.run(command)
    except BridgeError as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(1) from error


@asynccontextmanager
async def schema_of(service: str) -> AsyncIterator[Database]:
    """The schema of a service, named as people name it: `order-ingestor`."""
    url, schema = from_environment().database_url, service.replace("-", "_")
    async with await Database.connect(url, schema, application="bridge", connections=2) as database:
        if not await database.fetchval("SELECT true FROM pg_tables WHERE schemaname = $1 LIMIT 1", schema):
            known = ", ".join(await schemas_with(url, "consumer_positions"))
            raise Fatal(f"there is no service {service} in this database; there are: {known or 'none'}")
        yield database


async def service_of(consumer: str, table: str, service: str | None) -> str:
    """The service whose consumer it is, unless it was named.

    Raises:
        Fatal: no service has it in this table, or several have.
    """
    if service is not None:
        return service
    owners = []
    for name in await schemas_with(from_environment().database_url, table):
        async with schema_of(name) as database:
            if await database.fetchval(f"SELECT true FROM {table} WHERE consumer = $1 LIMIT 1", consumer):
                owners.append(name)
    if not owners:
        raise Fatal(f"no service has a consumer {consumer} here: `bridge offsets show` lists them")
    if len(owners) > 1:
        raise Fatal(f"{', '.join(owners)} each have a consumer {consumer}: say which with --service")
    return owners[0]


async def schemas_with(database_url: str, table: str) -> list[str]:
    """The services that have a table of this name, by their names outside."""
    async with await Database.connect(database_url, "public", application="bridge", connections=1) as database:
        found = await database.fetch("SELECT schemaname FROM pg_tables WHERE tablename = $1 ORDER BY schemaname", table)
    return [str(row["schemaname"]).replace("_", "-") for row in found]


def say(text: str, facts: Mapping[str, Any], as_json: bool) -> None:
    """What a command did: in words for people, as one JSON object for programs."""
    typer.echo(json.dumps(facts) if as_json else text)


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
