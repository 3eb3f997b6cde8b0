"""Waiting in business time, with a sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from shared.clock import BusinessClock

_BEAT_SECONDS = 10.0


async def pause(clock: BusinessClock, until: datetime, stop: asyncio.Event, beat: Callable[[], None]) -> None:
    """Wait until a business time, or `stop`."""
    waits = {asyncio.create_task(clock.sleep_until(until)), asyncio.create_task(stop.wait())}
    try:
        while not any(one.done() for one in waits):
            beat()
            await asyncio.wait(waits, timeout=_BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
