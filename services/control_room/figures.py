"""The first page's figures as metrics, so that alerts and dashboards say what people see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from services.control_room import queries
from services.control_room.folds import STAGES
from shared.clock import BusinessClock
from shared.database import Database
from shared.errors import Transient
from shared.telemetry import Metrics

_EVERY_SECONDS: Final = 15.0
NOTHING_DUE_SECONDS: Final = 864_000.0
"""Ten days, more than any marketplace gives: a gauge cannot be empty, and 0 would be an alarm."""

Reading = tuple[Any, float, dict[str, str]]
"""A gauge, its value and what it is about."""


def readings(found: Mapping[str, Any], now: datetime) -> Iterator[Reading]:
    """What `queries.glance` found, gauge by gauge; a freshness that nobody proved lately is not told."""
    for stage in STAGES:
        yield Metrics.orders, found["orders_by_stage"].get(stage, 0), {"stage": stage}
    due = found["next_due"]
    yield Metrics.next_deadline, (due - now).total_seconds() if due else NOTHING_DUE_SECONDS, {}
    for part in found["risk"]:
        yield Metrics.money_at_risk, float(part["sum"]), {"currency": part["currency"]}
    for quantile, name in (("0.5", "fresh_p50"), ("0.95", "fresh_p95")):
        if found[name] is not None:
            yield Metrics.freshness, found[name], {"quantile": quantile}
    oldest = found["oldest_unconfirmed"]
    yield Metrics.unconfirmed_age, (now - oldest).total_seconds() if oldest else 0.0, {}


async def run(database: Database, clock: BusinessClock, beat: Callable[[], None], stop: asyncio.Event) -> None:
    """Tell the figures every quarter of a minute until `stop`; an outage leaves the last ones standing."""
    currencies: set[str] = set()
    while not stop.is_set():
        beat()
        with suppress(Transient):
            found = await queries.glance(database, clock.now())
            told = {part["currency"] for part in found["risk"]}
            for gone in currencies - told:
                Metrics.money_at_risk.set(0, {"currency": gone})  # Else it would stand at its last value for ever.
            currencies = told
            for gauge, value, about in readings(found, clock.now()):
                gauge.set(value, about)
        with suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_SECONDS):
                await stop.wait()
