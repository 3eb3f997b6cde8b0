"""`bridge republish TOPIC`: the owners' current state once more, for a reader that has nothing yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from bridge.commands.places import run, schema_of, schemas_with
from shared import dead_letters
from shared.errors import Fatal
from shared.outbox import Current, Outbox, republish
from shared.settings import from_environment
from shared.topics import topic

CURRENT: dict[str, Current] = {"dead-letters": dead_letters.current}
"""Per topic, how its owner tells its current state as events; a service adds its topics here."""


class _NoClock:
    """Everything republished carries the time it was first published with."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC)


def republish_topic(
    name: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic, e.g. dead-letters.")],
    service: Annotated[str | None, typer.Option(help="One service; all that write the topic unless given.")] = None,
) -> None:
    """Write the current state through the outbox again, under its old ids: who has it drops it."""
    run(_republish(name, service))


async def _republish(name: str, service: str | None) -> None:
    current = CURRENT.get(topic(name).name)
    if current is None:
        raise Fatal(
            f"{name} cannot be republished: its owner keeps no current state for it; can be: {', '.join(CURRENT)}"
        )
    services = [service] if service else await schemas_with(from_environment().database_url, "outbox")
    for owner in services:
        async with schema_of(owner) as database:
            written = await _write(Outbox(database, owner, _NoClock()), current)
        typer.echo(f"{owner}: {written} events of {name} written to the outbox; its relay sends them")


async def _write(outbox: Outbox, current: Current) -> int:
    written = 0
    with Console(stderr=True).status("republishing") as status:
        async for count in republish(outbox, current):
            written = count
            status.update(f"republishing: {count:,} events")
    return written
