"""`bridge up`: all seven services on this machine, against the endpoints that the settings name."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from bridge.commands.places import run
from bridge.embedded import EmbeddedKafka, EmbeddedPostgres
from bridge.fleet import Fleet, environment_with
from shared.errors import Fatal, Transient
from shared.settings import CONFIG_VARIABLE, SERVERS, config_file, examine, from_environment, unnamed_servers

console = Console(stderr=True)

READY_SECONDS: Final = 120.0
"""After so long it is said who is not ready yet: much reference data takes its time and is no fault."""


def up(
    config: Annotated[
        Path | None, typer.Option(help=f"The settings; unless given, what {CONFIG_VARIABLE} names, or ./bridge.toml.")
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Where embedded Kafka and PostgreSQL keep their data, and services their logs.")
    ] = Path("bridge-data"),
) -> None:
    """Run all services until Ctrl-C, with embedded Kafka and PostgreSQL unless their addresses are given."""
    run(_up(config or config_file(), data.absolute()))


async def _up(config: Path, data: Path) -> None:
    if not config.is_file():
        raise Fatal(f"there is no file {config}: name one with --config, or write one with `bridge init`")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    environment = environment_with(**{CONFIG_VARIABLE: str(config.absolute())})
    unnamed = unnamed_servers(config, environment)
    _, mistakes = examine(config, environment | {name: SERVERS[name] for name in unnamed})
    if mistakes:
        raise Fatal(f"{config} has {len(mistakes)} mistake(s), `bridge check` lists them; the first: {mistakes[0]}")
    async with AsyncExitStack() as stack:
        with console.status("starting what the settings do not name"):
            if "KAFKA_BOOTSTRAP_SERVERS" in unnamed:
                kafka = stack.enter_context(await asyncio.to_thread(EmbeddedKafka.start, data=data))
                environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
            if "DATABASE_URL" in unnamed:
                postgres = stack.enter_context(await asyncio.to_thread(EmbeddedPostgres.start, data=data))
                environment["DATABASE_URL"] = postgres.url
        for name in unnamed:
            console.print(f"export {name}={environment[name]}", soft_wrap=True)
        fleet = await stack.enter_async_context(Fleet(environment, data / "logs"))
        with console.status("waiting until all services are ready"):
            await _until_ready(fleet, stop)
        room = from_environment(environment).control_room
        console.print(f"All services run until Ctrl-C; their logs are in {data / 'logs'}.")
        console.print(f"Control room: http://{room.host}:{room.port}")
        await fleet.wait(stop)


async def _until_ready(fleet: Fleet, stop: asyncio.Event) -> None:
    """Until all are ready, or `stop`, or until it has taken so long that it is said who is not."""
    waiting, stopping = asyncio.create_task(fleet.until_ready(READY_SECONDS)), asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (waiting, stopping):
        task.cancel()
    if not stop.is_set():
        try:
            await waiting
        except Transient as error:
            console.print(f"{error}. They go on getting ready.")
