"""A process that does what is owed, to be killed: it dawdles between SFCC's answer and its own note of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from services.order_ingestor.__main__ import desk_of
from shared.clock import BusinessClock
from shared.database import Database
from shared.http import open_session
from shared.obligations import Obligations, Pace
from shared.outbox import Outbox
from shared.settings import load
from shared.topics import INGESTOR


class Dawdling(Obligations):
    """Leaves time to be killed after the call and before the note."""

    async def settle(self, batch: Sequence[Any]) -> None:
        await asyncio.sleep(0.3)
        await super().settle(batch)


def work(environment: dict[str, str]) -> None:
    """The process's main function: works until it is killed."""
    asyncio.run(_work(environment))


async def _work(environment: dict[str, str]) -> None:
    settings = load(INGESTOR, environment)
    clock = BusinessClock()
    async with (
        await Database.connect(settings.database_url, "order_ingestor", application="killed") as database,
        open_session() as session,
    ):
        await clock.synchronize(database)
        desk = desk_of(database, clock, settings, session)
        pace = Pace(workers=4, per_account=4, lease_seconds=1.0, idle_seconds=0.02, rescue_seconds=0.1)
        kinds = (desk.kinds.create, desk.kinds.adopt, desk.kinds.update)
        worker = Dawdling(Outbox(database, INGESTOR, clock), kinds, uuid.uuid4().hex, pace=pace)
        await worker.run(asyncio.Event())
