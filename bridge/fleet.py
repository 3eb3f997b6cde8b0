"""All services side by side on one machine, each a process of its own that is started again when it ends.

What an orchestrator does for a deployment this does for `bridge up` and the demo: one service's crash is
no other's, a service that says that a person must act stops everything, and the end is bounded.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final, Self

import aiohttp

from bridge.embedded.places import free_port
from shared.errors import Fatal, Transient
from shared.lifecycle import DRAIN_SECONDS, EXIT_FATAL
from shared.topics import SERVICES

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_STEADY_SECONDS: Final = 30.0
"""Who ran so long starts again at once."""


class Member:
    """One service: its process, and the log it writes."""

    def __init__(self, name: str, environment: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.port = free_port()
        self.starts = 0
        self.killed = 0
        """How often it was ended by a SIGKILL that is not part of our own stop."""
        self._environment = dict(environment) | {"HEALTH_PORT": str(self.port)}
        self._process: Process | None = None

    async def keep_running(self, stop: asyncio.Event) -> None:
        """Start, and start again after every end that nobody asked for, until `stop`.

        Raises:
            Fatal: the service says that a person must act; the text has what it said.
        """
        pause = _FIRST_PAUSE_SECONDS
        while not stop.is_set():
            started = monotonic()
            status = await self._run_once(stop)
            if status == EXIT_FATAL:
                raise Fatal(f"{self.name} cannot go on: {self._last_words()}")
            pause = _FIRST_PAUSE_SECONDS if monotonic() - started > _STEADY_SECONDS else pause
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _run_once(self, stop: asyncio.Event) -> int:
        self.starts += 1
        with self.log.open("ab") as log:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{self.name.replace('-', '_')}",
                env=self._environment, stdout=log, stderr=log, stdin=DEVNULL,
                # Ctrl-C in a terminal reaches us alone; we pass it on in our order.
                start_new_session=True,
            )  # fmt: skip
        ending = asyncio.create_task(process.wait())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                self.signal(signal.SIGTERM)
                await asyncio.wait({ending}, timeout=DRAIN_SECONDS + 5)
        finally:
            stopping.cancel()
            self.signal(signal.SIGKILL)
        status = await ending
        self.killed += status == -signal.SIGKILL and not stop.is_set()
        return status

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal, if the process is there; whether it was."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
                return True
        return False

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return next((line.removeprefix("fatal: ") for line in reversed(lines) if line.startswith("fatal: ")), "no word")


class Fleet:
    """The services of one machine."""

    def __init__(self, environment: Mapping[str, str], logs: Path, services: Sequence[str] = SERVICES) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.members = {name: Member(name, environment, logs) for name in services}
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(member.keep_running(self._stop)) for member in self.members.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raises Fatal when a service has given up."""
        for task in self._tasks:
            if task.done() and (error := task.exception()):
                raise error

    async def until_ready(self, seconds: float) -> None:
        """Wait until every service says that it does its part.

        Raises:
            Fatal: one has given up.
            Transient: some are not ready in time; the text names them.
        """
        waiting = list(self.members.values())
        until = monotonic() + seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            while waiting:
                self.check()
                if monotonic() > until:
                    names = ", ".join(member.name for member in waiting)
                    raise Transient(
                        f"not ready after {seconds:g} s: {names}; their logs are in {waiting[0].log.parent}"
                    )
                answers = await asyncio.gather(*(_is_ready(session, member.port) for member in waiting))
                waiting = [member for member, ready in zip(waiting, answers, strict=True) if not ready]
                await asyncio.sleep(0.2 if waiting else 0)

    async def wait(self, stop: asyncio.Event) -> None:
        """Until `stop`.

        Raises:
            Fatal: a service has given up.
        """
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self.check()


async def _is_ready(session: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/ready") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def environment_with(**values: str) -> dict[str, str]:
    """This process's environment with further variables, for the services."""
    return dict(os.environ) | values
