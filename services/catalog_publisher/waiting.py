"""Waiting in business time, and working until told to stop, with a sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final

from shared.clock import BusinessClock

_BEAT_SECONDS: Final = 10.0
_CUT_SECONDS: Final = 5.0


async def pause(clock: BusinessClock, until: datetime, stop: asyncio.Event, beat: Callable[[], None]) -> None:
    """Wait until a business time, or `stop`."""
    await until_stopped(clock.sleep_until(until), stop, beat)


async def until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event, beat: Callable[[], None]) -> None:
    """Do something that may be cut off anywhere, such as waiting for an export, until `stop`."""
    doing, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        while not doing.done() and not stopped.done():
            beat()
            await asyncio.wait({doing, stopped}, timeout=_BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing}, timeout=_CUT_SECONDS)
    if doing.done() and not doing.cancelled():
        doing.result()
