"""`bridge up`: all seven services on this machine, against the endpoints that the settings name."""

from __future__ import annotations

import asyncio
import signal
import tomllib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bridge.commands.places import run
from bridge.embedded import EmbeddedKafka, EmbeddedPostgres
from bridge.fleet import Fleet, environment_with
from shared.errors import Fatal
from shared.settings import CONFIG_VARIABLE, config_file, examine, from_environment

console = Console(stderr=True)

READY_SECONDS = 120.0


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
    async with AsyncExitStack() as stack:
        environment = environment_with(**{CONFIG_VARIABLE: str(config.absolute())})
        missing = servers_missing(environment, tomllib.loads(config.read_text()))
        with console.status("starting " + ", ".join(missing) if missing else "reading the settings"):
            if "Kafka" in missing:
                kafka = stack.enter_context(await asyncio.to_thread(EmbeddedKafka.start, data=data))
                environment["KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap_servers
            if "PostgreSQL" in missing:
                postgres = stack.enter_context(await asyncio.to_thread(EmbeddedPostgres.start, data=data))
                environment["DATABASE_URL"] = postgres.url
        _, mistakes = examine(config, environment)
        if mistakes:
            raise Fatal(f"{config} has {len(mistakes)} mistake(s), `bridge check` lists them; the first: {mistakes[0]}")
        fleet = await stack.enter_async_context(Fleet(environment, data / "logs"))
        with console.status("waiting until all services are ready"):
            await fleet.until_ready(READY_SECONDS)
        room = from_environment(environment).control_room
        console.print(f"All services run until Ctrl-C; their logs are in {data / 'logs'}.")
        console.print(f"Control room: http://{room.host}:{room.port}")
        await fleet.wait(stop)


def servers_missing(environment: dict[str, str], settings: dict[str, Any]) -> list[str]:
    """What neither the environment nor the settings name."""
    kafka = "KAFKA_BOOTSTRAP_SERVERS" in environment or settings.get("kafka", {}).get("bootstrap_servers")
    postgres = "DATABASE_URL" in environment or settings.get("postgres", {}).get("url")
    return [name for name, given in (("Kafka", kafka), ("PostgreSQL", postgres)) if not given]
