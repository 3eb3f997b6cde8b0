"""SIGTERM drains inside a budget, and the exit status says what happened: in a real child process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.lifecycle import EXIT_FATAL, run_loops

PROGRAM = """
import asyncio, sys
from shared.errors import Fatal
from shared.lifecycle import run, run_loops

async def until_told(stop):
    print("up", flush=True)
    await stop.wait()

async def drains(stop):
    await stop.wait()
    await asyncio.sleep(0.2)
    print("drained", flush=True)

async def never_ends(stop):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise

async def cannot_be_cancelled(stop):
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled in vain", flush=True)

async def fails(stop):
    await asyncio.sleep(0.05)
    raise RuntimeError("a mistake of ours")

async def is_fatal(stop):
    raise Fatal("the offsets belong to another cluster: bridge offsets set")

async def ends_early(stop):
    return

LOOPS = {LOOPS}

async def serve(stop):
    await run_loops(stop, LOOPS)

run(serve, drain_seconds={DRAIN})
"""


@contextmanager
def service(*loops: str, drain_seconds: float = 5.0) -> Iterator[subprocess.Popen[str]]:
    """A child process that runs these loops; it is up when it says so."""
    table = "{" + ", ".join(f"{loop!r}: {loop}" for loop in loops) + "}"
    program = PROGRAM.replace("{LOOPS}", table).replace("{DRAIN}", str(drain_seconds))
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if "until_told" in loops:
            assert child.stdout is not None
            assert child.stdout.readline() == "up\n"
        yield child
    finally:
        child.kill()
        child.wait()
        for stream in (child.stdout, child.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_every_loop_end_its_work(number: signal.Signals) -> None:
    with service("until_told", "drains") as child:
        child.send_signal(number)
        out, _ = child.communicate(timeout=40)
        assert (child.returncode, out.splitlines()[-1]) == (0, "drained")


def test_a_loop_that_does_not_drain_is_cancelled_when_the_budget_is_spent() -> None:
    with service("until_told", "never_ends", drain_seconds=0.3) as child:
        told = time.monotonic()
        child.terminate()
        out, _ = child.communicate(timeout=40)
        assert out.splitlines()[-1] == "cancelled"
        assert 0.3 <= time.monotonic() - told < 30


def test_a_loop_that_cannot_even_be_cancelled_does_not_keep_the_process() -> None:
    with service("until_told", "cannot_be_cancelled", drain_seconds=0.2) as child:
        child.terminate()
        out, _ = child.communicate(timeout=40)
        assert child.returncode == 1
        assert "cancelled in vain" in out


def test_a_second_signal_leaves_at_once() -> None:
    with service("until_told", "never_ends", drain_seconds=100) as child:
        child.terminate()
        assert child.stdout is not None
        while "stopping" not in child.stdout.readline():
            pass  # The first must have been handled; two at once are one to the kernel.
        child.terminate()
        assert child.wait(timeout=40) == 1


def test_a_loop_that_fails_ends_the_process_because_half_a_service_helps_nobody() -> None:
    with service("until_told", "drains", "fails") as child:
        out, _ = child.communicate(timeout=40)
        assert child.returncode == 1
        assert "drained" in out, "the others end in an orderly way"


def test_a_fatal_error_has_an_exit_status_of_its_own_and_prints_its_remedy() -> None:
    with service("is_fatal") as child:
        _, err = child.communicate(timeout=40)
        assert child.returncode == EXIT_FATAL == 78
        assert "fatal: the offsets belong to another cluster: bridge offsets set" in err


def test_a_loop_that_ends_although_nobody_asked_is_a_failure() -> None:
    with service("until_told", "ends_early") as child:
        child.communicate(timeout=40)
        assert child.returncode == 1


async def test_a_loop_that_its_client_cancelled_is_a_failure_too() -> None:
    async def gives_up(stop: asyncio.Event) -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="the loop client was cancelled"):
        await run_loops(asyncio.Event(), {"client": gives_up})
