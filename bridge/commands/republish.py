"""`bridge republish TOPIC`: the owners' current state once more, for a reader that has nothing yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from bridge.commands.places import Json, run, say, schema_of, schemas_with
from services.control_room import actions
from shared import dead_letters, mappings, rules
from shared.outbox import Current, Outbox, republish
from shared.settings import from_environment
from shared.topics import ALL, topic

CURRENT: dict[str, Current] = {
    "dead-letters": dead_letters.current,
    "mappings": mappings.current,
    "operator-actions": actions.current,
    "rules": rules.current,
}
"""Per topic, how its owner tells its current state as events; a service adds its topics here."""


class _NoClock:
    """Everything republished carries the time it was first published with."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(0, UTC)


def republish_topic(
    name: Annotated[str, typer.Argument(metavar="TOPIC", help=f"The topic: {', '.join(CURRENT)}.")],
    service: Annotated[str | None, typer.Option(help="One service; all that write the topic unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Write the current state through the outbox again, under its old ids: who has it drops it."""
    if name not in CURRENT:
        known = ", ".join(CURRENT)
        raise typer.BadParameter(
            f"{name!r}: its owner keeps no current state for it; can be: {known}", param_hint="TOPIC"
        )
    writer = topic(name).writer
    if service is not None and writer not in (ALL, service):
        raise typer.BadParameter(f"{service!r} does not write {name}: {writer} does", param_hint="--service")
    run(_republish(name, service if writer == ALL else writer, as_json))


async def _republish(name: str, service: str | None, as_json: bool) -> None:
    services = [service] if service else await schemas_with(from_environment().database_url, "outbox")
    written = {}
    for owner in services:
        async with schema_of(owner) as database:
            written[owner] = await _write(Outbox(database, owner, _NoClock()), CURRENT[name])
    lines = [
        f"{owner}: {count} events of {name} written to the outbox; its relay sends them"
        for owner, count in written.items()
    ]
    say("\n".join(lines), {"topic": name, "written": written}, as_json)


async def _write(outbox: Outbox, current: Current) -> int:
    written = 0
    with Console(stderr=True).status("republishing") as status:
        async for count in republish(outbox, current):
            written = count
            status.update(f"republishing: {count:,} events")
    return written
