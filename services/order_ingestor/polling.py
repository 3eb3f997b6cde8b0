"""Orders are read: every minute what changed, once a day what was made, by one replica per shop at a time.

The watermark is the marketplace's own clock (`Date` of the first page's answer), never ours. It moves only when
all pages of a reading are taken in, and reading begins a little before it, so that an order that changed while the
pages were read, or in the watermark's own second, comes again. No end and no state is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from services.order_ingestor.capture import Intake
from services.order_ingestor.lifecycle import CapturedBy
from shared.breaker import Breaker
from shared.cases import close_cases, open_case
from shared.clock import BusinessClock
from shared.cursors import Cursor, move_cursor, read_cursor
from shared.database import patiently
from shared.errors import Refused, Transient, UnknownOutcome
from shared.leases import Lease, Leases
from shared.mirakl.client import MiraklClient
from shared.mirakl.orders import OrdersPage
from shared.outbox import Outbox, Transaction
from shared.settings import ShopSettings
from shared.telemetry import new_trace

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=1)
OVERLAP: Final = timedelta(minutes=2)
"""Read again before the watermark: longer than any answer takes, and than the second that `Date` rounds to."""
LOOK_BACK: Final = timedelta(days=30)
"""How far the first reading of a shop goes back, before `orders_from` or now."""
RESCAN_EVERY: Final = timedelta(days=1)
RESCAN_OF: Final = timedelta(days=2)
COVERS: Final = "OR11 states=* by=last_updated"
RESCAN_COVERS: Final = "OR11 states=* by=created"


@dataclass(slots=True)
class Poll:
    """The reading of one shop."""

    shop: ShopSettings
    client: MiraklClient
    intake: Intake
    outbox: Outbox
    clock: BusinessClock
    breaker: Breaker
    leases: Leases
    beat: Callable[[], None] = lambda: None
    every: timedelta = EVERY

    async def run(self, stop: asyncio.Event) -> None:
        """Read while the shop's lease is ours, until `stop`."""

        async def work(lease: Lease) -> None:
            while not stop.is_set():
                started = self.clock.now()
                await until_stopped(self._round(), stop, self.beat)
                await pause(self.clock, started + self.every, stop, self.beat)

        await self.leases.run(f"order-ingestor/{self.shop.account}", work, stop)

    async def _round(self) -> None:
        await self.guarded(self.read_changes)
        if await self._rescan_is_due():
            await self.guarded(self.rescan)

    async def guarded(self, read: Callable[[], Awaitable[int]]) -> None:
        """One broken shop stops nobody: the breaker asks for a person, and the next round tries again."""
        try:
            async with self.breaker.guard(self.shop.account, self.outbox):
                with new_trace("read orders", attributes={"bridge.account": self.shop.account}):
                    await read()
        except (Refused, Transient, UnknownOutcome) as error:
            log.warning("orders_not_read", account=self.shop.account, error=type(error).__name__, reason=str(error))

    async def read_changes(self) -> int:
        """Everything that changed since the last reading; how many orders were news."""
        name = f"orders/{self.shop.account}"
        cursor = await read_cursor(self.outbox.database, name, COVERS)
        begin = self.shop.orders_from or self.clock.now()
        since = cursor.until - OVERLAP if cursor is not None else begin - LOOK_BACK
        news, until = 0, None
        async with aclosing(self.client.list_orders(updated_since=since)) as pages:
            async for page in pages:
                until = until or page.answered_at
                news += await self.take_in(page, "poll")
        if until is not None:
            async with self.outbox.transaction() as tx:
                covered = cursor.since if cursor is not None else since
                await move_cursor(tx, name, Cursor(COVERS, covered, until), tx.time)
        return news

    async def take_in(self, page: OrdersPage, by: CapturedBy) -> int:
        """One page, in one transaction."""
        read_at = page.answered_at or self.clock.now()

        async def once(end_blockers: bool, careful: bool = False) -> int:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                return await self.intake.take_in(
                    tx, self.shop, page.orders, page.unreadable, read_at, by, careful=careful
                )

        if not page.orders and not page.unreadable:
            return 0
        try:
            return await patiently(once)
        except Transient:
            raise
        except Exception as error:
            log.warning("page_taken_in_one_by_one", account=self.shop.account, error=type(error).__name__)
            return await patiently(lambda end_blockers: once(end_blockers, True))

    # Once a day -------------------------------------------------------------------------------------

    async def _rescan_is_due(self) -> bool:
        with suppress(Transient):
            cursor = await read_cursor(self.outbox.database, self._rescan, RESCAN_COVERS)
            return cursor is None or cursor.until + RESCAN_EVERY <= self.clock.now()
        return False

    @property
    def _rescan(self) -> str:
        return f"orders-by-creation/{self.shop.account}"

    async def rescan(self) -> int:
        """Count the orders of the last days on both sides; how many were missing here and are there now.

        One call tells their count. Only where it is not ours are the pages read, and what is missing is taken in; a
        count that differs even then is a case.
        """
        now = self.clock.now()
        since = max(now - RESCAN_OF, self.shop.orders_from or now - RESCAN_OF)
        news, theirs, ours = 0, 0, 0
        async with aclosing(self.client.list_orders(created_since=since, purpose="backfill")) as pages:
            async for page in pages:
                news += await self.take_in(page, "rescan")
                theirs = page.total_count if page.total_count is not None else theirs + len(page.orders)
                ours = await self._count(since)
                if ours == theirs:
                    break
        async with self.outbox.transaction() as tx:
            await self._ask(tx, theirs, ours, since)
            await move_cursor(tx, self._rescan, Cursor(RESCAN_COVERS, since, now), now)
        log.info("orders_counted", account=self.shop.account, count=theirs)
        return news

    async def _count(self, since: datetime) -> int:
        return int(
            await self.outbox.database.fetchval(
                """SELECT (SELECT count(*) FROM orders
                           WHERE marketplace = $1 AND shop = $2 AND created_at >= $3 AND version > 0)
                        + (SELECT count(*) FROM unreadable_orders AS u WHERE marketplace = $1 AND shop = $2
                           AND seen_at >= $3 AND NOT EXISTS (SELECT 1 FROM orders AS o
                               WHERE (o.marketplace, o.order_id) = (u.marketplace, u.order_id) AND o.version > 0))""",
                self.shop.marketplace_name,
                self.shop.shop_id,
                since,
            )
        )

    async def _ask(self, tx: Transaction, theirs: int, ours: int, since: datetime) -> None:
        about = f"shop/{self.shop.account}"
        if theirs == ours:
            await close_cases(tx, about=about, code="order-count-differs", explanation="The counts are equal.")
            return
        await open_case(
            tx,
            "order-count-differs",
            about=about,
            marketplace=self.shop.marketplace_name,
            shop=self.shop.shop_id,
            facts={"Mirakl": str(theirs), "here": str(ours), "since": since.isoformat()},
        )


async def pause(
    clock: BusinessClock, until: datetime, stop: asyncio.Event, beat: Callable[[], None] = lambda: None
) -> None:
    """Wait until a business time, or `stop`."""
    await until_stopped(clock.sleep_until(until), stop, beat)


async def until_stopped(work: Coroutine[Any, Any, None], stop: asyncio.Event, beat: Callable[[], None]) -> None:
    """Do something that may be cut off anywhere, such as waiting for a slot, until `stop`; the loop shows it lives."""
    doing, stopped = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        while not doing.done() and not stopped.done():
            beat()
            await asyncio.wait({doing, stopped}, timeout=10.0, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing}, timeout=5.0)
    if doing.done() and not doing.cancelled():
        doing.result()
