"""Control room: where people see what the flow does, whose turn it is, and put things right.

Reads    all topics but stock-levels
Writes   mappings, rules, operator-actions
Owns     the schema control_room
Asks     nobody: it is where the others ask

What a person decides is one event, written with what the pages show of it, and says who, when, why and what
was there before. Whatever is shown was told by an event and could be told again; nothing here calls SFCC or
a marketplace.
"""

from __future__ import annotations

import asyncio
import getpass
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, cast, get_args

import structlog
import typer
from aiohttp import web

from services.control_room import figures, projections
from services.control_room.access import ROLES, People, Role, Sessions, person_as_toml, read_people
from services.control_room.actions import Desk
from services.control_room.pages import Room, fresh_secret
from shared.lifecycle import run
from shared.service import Service, open_service
from shared.settings import Settings, from_environment
from shared.topics import CONTROL_ROOM

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

app = typer.Typer(help="Cases, deadlines, mappings and money on pages.", pretty_exceptions_show_locals=False)


def main() -> None:
    """The console script."""
    app()


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Run the service; settings are read from the environment and the file it names."""
    if context.invoked_subcommand is None:
        run(lambda stop: serve(from_environment(service=CONTROL_ROOM), stop))


async def serve(settings: Settings, stop: asyncio.Event, *, telemetry: bool = True) -> None:
    """Project every topic and answer browsers, until `stop`."""
    async with open_service(CONTROL_ROOM, settings, own=MIGRATIONS, telemetry=telemetry) as service:
        service.consume(projections.handlers())
        room = room_of(service)
        listening = asyncio.Event()
        service.health.checks["pages"] = listening.is_set
        service.loop("pages", lambda stop: listen(room, settings, listening, stop))
        service.loop("figures", partial(figures.run, service.database, service.clock, service.beat("figures")))
        await service.run(stop)


def room_of(service: Service) -> Room:
    """The pages over a service's database.

    Raises:
        Fatal: the people's file cannot be read.
    """
    wanted = service.settings.control_room
    return Room(
        database=service.database,
        clock=service.clock,
        desk=Desk(service.outbox),
        people=People(Path(wanted.people)),
        sessions=Sessions(wanted.secret.value() if wanted.secret else fresh_secret()),
        trace_url=wanted.trace_url,
        secure=bool(wanted.url and wanted.url.startswith("https://")),
    )


async def listen(room: Room, settings: Settings, listening: asyncio.Event, stop: asyncio.Event) -> None:
    """Serve the pages until `stop`."""
    runner = web.AppRunner(room.app(), access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.control_room.host, settings.control_room.port).start()
        log.info("listening", port=runner.addresses[0][1])
        listening.set()
        await stop.wait()
    finally:
        await runner.cleanup()


@app.command("add-person")
def add_person(
    file: Annotated[Path, typer.Argument(help="The people's file; made if it is not there.")],
    login: Annotated[str, typer.Argument(help="What the person signs in with.")],
    name: Annotated[str, typer.Argument(help="What others see; never leaves this file and the pages.")],
    role: Annotated[str, typer.Argument(help=" | ".join(ROLES))],
) -> None:
    """Let somebody sign in; the password is asked for, or read from standard input."""
    if role not in get_args(Role):
        raise typer.BadParameter(f"{role}: choose one of {', '.join(ROLES)}")
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    try:
        entry = person_as_toml(login, name, cast(Role, role), password)
        text = file.read_text("utf-8") if file.exists() else ""
        if any(person.login == login for person in read_people(text)):
            raise ValueError(f"{login} is in {file} already: take that entry out, or choose another login")
        with file.open("a", encoding="utf-8") as people:
            people.write(entry + "\n")
        file.chmod(0o600)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{login} may sign in as {role}.")


if __name__ == "__main__":
    main()
