"""What the embedded servers have in common: a process under guard, a folder under claim, a log to show."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from bridge.embedded.guard import Guard
from bridge.embedded.places import claim, temporary_folder
from shared.errors import Fatal, Transient


class EmbeddedServer:
    """One server process on loopback. `kept` says whether its folder outlives it."""

    name: ClassVar[str]
    """As people call it."""
    stop_signal: ClassVar[signal.Signals]
    """The signal of an orderly shutdown."""
    drop_signal: ClassVar[signal.Signals]
    """The signal of a quick one, for data that goes with the server."""
    start_seconds: ClassVar[float]
    """How long it may take until it answers (real time)."""

    def __init__(self, data: Path | None, port: int) -> None:
        place = type(self).__name__.removeprefix("Embedded").lower()
        self.folder = (data / place) if data else temporary_folder(place)
        self.port = port
        self._kept = data is not None
        self._claim: IO[str] = claim(self.folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @property
    def pid(self) -> int:
        """The server's first process."""
        return self._running.pid

    def stop(self) -> None:
        """End it; its data goes too, unless a folder was named."""
        if self._guard is not None:
            with collected(self._running):
                self._guard.stop()
            self._guard = None
        self._claim.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self.stop()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None  # `start` made it
        return self._process

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _launch(self, command: Sequence[str], ask: Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> None:
        """Start the process under guard and wait until `ask` is answered.

        Raises:
            Fatal: it does not start; the text has the end of its log.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **options
            )
        if self._guard is None:
            self._guard = (
                Guard(self.pid, self.stop_signal) if self._kept else Guard(self.pid, self.drop_signal, self.folder)
            )
        else:
            self._guard.watch(self.pid)
        until = time.monotonic() + self.start_seconds
        while time.monotonic() < until and self._running.poll() is None:
            try:
                blocking(ask())
                return
            except Transient:
                time.sleep(0.05)
        end = self._log.read_text(errors="replace")[-3000:]
        self.stop()
        raise Fatal(f"{self.name} did not start on 127.0.0.1:{self.port}. The end of its log:\n{end}")


@contextmanager
def collected(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the block ends our child, its status is collected, so that whoever waits for it sees it go."""
    thread = threading.Thread(target=process.wait)
    thread.start()
    yield
    thread.join(10)


def blocking(coroutine: Any) -> Any:
    """Run a coroutine to its end from plain code, also where this thread has a loop of its own."""
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
