"""From start to stop: one process, its loops, its signals and its exit status.

SIGTERM sets a stop event. The loops then end by themselves within the drain budget; one that does not
is cancelled, and if even that hangs the process leaves all the same: what is not committed is done
again by the next one. A loop that fails ends the process, since half a service helps nobody.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog

from shared.errors import Fatal
from shared.telemetry import set_up_logs

log = structlog.get_logger(__name__)

DRAIN_SECONDS: Final = 25.0
EXIT_FAILED: Final = 1
EXIT_FATAL: Final = 78
"""EX_CONFIG of sysexits.h: a restart does not help, a person must act."""

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def tune_garbage_collection() -> None:
    """Collect less often: a batch makes thousands of objects that reference counting frees anyway.

    With Python's defaults a third of the time on the full path went into looking for cycles.
    """
    gc.set_threshold(50_000, 20, 50)


def run(serve: Callable[[asyncio.Event], Awaitable[None]], *, drain_seconds: float = DRAIN_SECONDS) -> NoReturn:
    """Run a service until it is told to stop, and leave with its exit status: 0, 1, or 78 after `Fatal`.

    `serve` is given the stop event. A second signal leaves at once.
    """
    # Before anything can fail: structlog's own way to show an error prints locals, secrets among them.
    set_up_logs(Path(sys.argv[0]).stem, f"pid-{os.getpid()}")
    tune_garbage_collection()
    status = 0
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_until_stopped(serve, drain_seconds))
    except Fatal as error:
        log.critical("fatal", reason=str(error))
        print(f"fatal: {error}", file=sys.stderr)
        status = EXIT_FATAL
    except Exception as error:
        log.critical("failed", exc_info=error)
        status = EXIT_FAILED
    sys.stdout.flush()
    sys.exit(status)


def script(serve: Callable[[asyncio.Event], Awaitable[None]]) -> NoReturn:
    """The console script of a service that has no commands: `run`, unless it is given an argument."""
    if sys.argv[1:]:
        sys.exit(f"{Path(sys.argv[0]).name} takes no arguments, not even {sys.argv[1]}: see docs/settings.md")
    run(serve)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _until_stopped(serve: Callable[[asyncio.Event], Awaitable[None]], drain_seconds: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("leaving_at_once", signal=number.name)
            _leave(EXIT_FAILED)
        log.info("stopping", signal=number.name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # not made for Windows
            loop.add_signal_handler(number, told, number)
    service = asyncio.ensure_future(serve(stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({service, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not service.done():
        await asyncio.wait({service}, timeout=drain_seconds)
    if not service.done():
        log.error("drain_budget_spent", seconds=drain_seconds)
        service.cancel()
        await asyncio.wait({service}, timeout=3.0)
        if not service.done():
            log.error("leaving_with_work_undone")
            _leave(EXIT_FAILED)
    stopping.cancel()
    with suppress(asyncio.CancelledError):
        service.result()


async def run_loops(stop: asyncio.Event, loops: Mapping[str, Loop]) -> None:
    """Run named loops side by side; the first that fails stops the others, and its error is raised."""
    tasks = {asyncio.create_task(loop(stop), name=name): name for name, loop in loops.items()}
    pending = set(tasks)
    failure: BaseException | None = None
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # A client may cancel itself while its broker is away: that is a failure, not our stop.
                error = RuntimeError(f"the loop {tasks[task]} was cancelled") if task.cancelled() else task.exception()
                if error:
                    log.error("loop_failed", loop=tasks[task], exc_info=error)
                    failure = failure or error
                    stop.set()
                elif not stop.is_set():
                    failure = failure or RuntimeError(f"the loop {tasks[task]} ended although nobody asked it to")
                    stop.set()
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending, timeout=3.0)
    if failure is not None:
        raise failure


def _leave(status: int) -> NoReturn:
    """Without waiting for anything: threads and connections go down with the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
