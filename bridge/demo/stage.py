"""What the demo plays on: embedded servers, both sandboxes, all services, and one clock for all of them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from time import monotonic
from typing import Any, Final

import aiohttp

from bridge.demo import world
from bridge.embedded import EmbeddedKafka, EmbeddedPostgres
from bridge.embedded.places import free_port
from bridge.fleet import Fleet, environment_with
from shared.clock import SYNCHRONIZE_SECONDS, BusinessClock, jump, set_speed
from shared.database import Database, migrate
from shared.errors import Fatal, Transient
from shared.kafka import Address

READY_SECONDS: Final = 120.0
_STEP: Final = timedelta(hours=13)
"""Below the day that an event may be ahead of its reader's clock."""
_STILL: Final = 0.001


class Remote:
    """The control API of one sandbox."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.url = url
        self._session = session

    async def ask(self, path: str, **query: str | int) -> Any:
        """What it says.

        Raises:
            Transient: it does not answer as it should.
        """
        return await self._send("GET", path, None, query)

    async def tell(self, path: str, body: object = None, *, method: str = "POST") -> Any:
        """Do something.

        Raises:
            Transient: it does not answer as it should.
        """
        return await self._send(method, path, {} if body is None else body, {})

    async def _send(self, method: str, path: str, body: object, query: dict[str, str | int]) -> Any:
        try:
            async with self._session.request(method, f"{self.url}/control/{path}", json=body, params=query) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Transient(f"{method} {path}: {type(error).__name__}") from error
        if answer.status >= 300:
            raise Transient(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)


@dataclass(slots=True)
class Stage:
    """Everything that runs."""

    folder: Path
    kafka: Address
    database: Database
    clock: BusinessClock
    mirakl: Remote
    sfcc: Remote
    fleet: Fleet
    room_url: str
    session: aiohttp.ClientSession

    async def set_speed(self, speed: float) -> None:
        """Let time pass so fast, for everybody. The sandboxes are never behind us: no call comes too soon."""
        if speed >= await self.database.fetchval("SELECT speed FROM bridge.clock"):
            await self._tell_clocks(speed=speed)
            await set_speed(self.database, speed)
        else:
            await set_speed(self.database, speed)
            # Whoever has not noticed yet still counts fast; the others are kept ahead meanwhile.
            await asyncio.sleep(SYNCHRONIZE_SECONDS * 2)
            await self._tell_clocks(speed=speed)
        await self.clock.synchronize(self.database)

    async def jump(self, by: timedelta) -> None:
        """Go on by so much, in steps that every process notices before the next.

        Time all but stands still meanwhile: a call at the old time on one side would be one too soon on
        the other.
        """
        speed = await self.database.fetchval("SELECT speed FROM bridge.clock")
        await self.set_speed(_STILL)
        while by > timedelta(0):
            step = min(by, _STEP)
            await self._tell_clocks(advance_seconds=step.total_seconds())
            await jump(self.database, step)
            await self.clock.synchronize(self.database)
            by -= step
            await asyncio.sleep(SYNCHRONIZE_SECONDS * 2)
        await self.set_speed(speed)

    async def _tell_clocks(self, **change: float) -> None:
        await asyncio.gather(self.mirakl.tell("clock", change), self.sfcc.tell("clock", change))


@asynccontextmanager
async def staged(
    folder: Path, seed: int, room_port: int, furnish: Callable[[Remote], Awaitable[None]]
) -> AsyncIterator[Stage]:
    """Start everything, wait until every service is ready, and end everything.

    `furnish` tells the open Mirakl what it has before the bridge meets it.

    Raises:
        Fatal: something does not start; the text says what.
    """
    async with AsyncExitStack() as stack:
        kafka, postgres = await asyncio.gather(
            asyncio.to_thread(EmbeddedKafka.start), asyncio.to_thread(EmbeddedPostgres.start)
        )
        stack.enter_context(kafka)
        stack.enter_context(postgres)
        # The schema that holds the clock comes with any service's.
        await migrate(postgres.url, "demo")
        database = await stack.enter_async_context(
            await Database.connect(postgres.url, "demo", application="demo", connections=2)
        )
        clock = BusinessClock()
        await clock.synchronize(database)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), connector=aiohttp.TCPConnector(limit=40))
        )
        start = clock.now()
        files = world.write_files(folder, start, seed)
        mirakl, sfcc = [
            Remote(session, await stack.enter_async_context(_sandbox(name, file, seed, folder)))
            for name, file in zip(("mirakl", "sfcc"), files, strict=True)
        ]
        await furnish(mirakl)
        settings = folder / "bridge.toml"
        settings.write_text(world.settings(mirakl.url, sfcc.url, folder))
        environment = environment_with(
            BRIDGE_CONFIG=str(settings),
            KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap_servers,
            DATABASE_URL=postgres.url,
            CONTROL_ROOM_PORT=str(room_port),
            # Whoever is signed in stays so when the control room starts again.
            CONTROL_ROOM_SECRET=token_hex(32),
            **world.secrets(),
        )
        fleet = await stack.enter_async_context(Fleet(environment, folder / "logs"))
        room_url = f"http://127.0.0.1:{room_port}"
        made = Stage(
            folder, Address(kafka.bootstrap_servers), database, clock, mirakl, sfcc, fleet, room_url, session
        )  # fmt: skip
        # The sandboxes stood still so far, and are brought to our time before they begin to run with it.
        for remote in (mirakl, sfcc):
            await remote.tell("clock", {"to": clock.now().isoformat(), "speed": 1.0, "shared": True})
        await fleet.until_ready(READY_SECONDS)
        yield made


@asynccontextmanager
async def _sandbox(name: str, config: Path, seed: int, folder: Path) -> AsyncIterator[str]:
    """A sandbox as a process of its own; its URL."""
    port = free_port()
    with (folder / f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"sandbox.{name}", "--port", str(port)),
            *("--seed", str(seed), "--config", str(config)),
            stdin=DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        await _until_it_answers(process, url, folder / f"{name}.log")
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _until_it_answers(process: Process, url: str, log: Path) -> None:
    until = monotonic() + 60
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while monotonic() < until and process.returncode is None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url}/control/clock"):
                    return
            await asyncio.sleep(0.1)
    raise Fatal(f"a sandbox did not start: {log.read_text(errors='replace')[-1000:]}")
