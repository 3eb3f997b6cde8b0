"""A shop's money is read: transactions about every hour, billing cycles once a day, by one replica at a time.

Transactions come in the order of their last change (TL02), and the watermark is the last change that was taken in,
never a clock of ours. It moves page by page, and reading begins a little before it. Where more has changed than the
published frequency lets pages bring, the rest comes as one export (TL03 to TL05).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from services.finance_ledger.booking import settle_suspense, take_in
from services.finance_ledger.judging import cover, judge, plain, report, to_judge
from services.finance_ledger.posting import Line
from shared.breaker import Breaker
from shared.cases import close_cases, open_case
from shared.clock import BusinessClock
from shared.cursors import Cursor, move_cursor, read_cursor
from shared.database import patiently
from shared.errors import Permanent, Refused, Transient, UnknownOutcome
from shared.leases import Lease, Leases
from shared.mirakl.client import MiraklClient
from shared.mirakl.finance import Transaction as Booked
from shared.money import Money
from shared.outbox import Outbox, Transaction
from shared.settings import ShopSettings
from shared.telemetry import new_trace

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=72)
"""Twenty times a day, as Mirakl recommends for TL02."""
CYCLES_EVERY: Final = timedelta(days=1)
OVERLAP: Final = timedelta(minutes=10)
LOOK_BACK: Final = timedelta(days=30)
"""How far the first reading of a shop goes back, before `orders_from` or now."""
CYCLES_LOOK_BACK: Final = timedelta(days=60)
"""A payout may change its state so long after its cycle ended."""
PAGES_AT_ONCE: Final = 20
"""More pages than this in one reading come as an export: TL02 may be asked 20 times a minute, and 60 an hour."""
COVERS: Final = "TL02 types=* by=last_updated"
EXPORT_COVERS: Final = "TL03 types=* by=last_updated"
CYCLES_COVER: Final = "SBC11 states=*"
UNREADABLE: Final = "ledger-line-unreadable"
_EXPORT_LOOKS: Final = timedelta(seconds=15)
_LINES_AT_ONCE: Final = 2000


@dataclass(slots=True)
class Reading:
    """The money of one shop."""

    shop: ShopSettings
    client: MiraklClient
    outbox: Outbox
    clock: BusinessClock
    breaker: Breaker
    leases: Leases
    beat: Callable[[], None] = lambda: None
    every: timedelta = EVERY
    cycles_every: timedelta = CYCLES_EVERY
    pages_at_once: int = PAGES_AT_ONCE

    async def run(self, stop: asyncio.Event) -> None:
        """Read while the shop's lease is ours, until `stop`."""

        async def work(lease: Lease) -> None:
            while not stop.is_set():
                started = self.clock.now()
                await self.round()
                await pause(self.clock, started + self.every, stop, self.beat)

        await self.leases.run(f"finance-ledger/{self.shop.account}", work, stop)

    async def round(self) -> None:
        """Cycles, then transactions, then the comparison: lines that are read after a cycle was seen are all of it.

        One broken shop stops nobody: the breaker asks for a person, and the next round tries again.
        """
        if await self._cycles_are_due():
            await self._guarded(self.read_cycles)
        started = self.clock.now()
        whole = await self._guarded(self.read_transactions)
        try:
            if whole:
                async with self.outbox.transaction() as tx:
                    await cover(tx, self.market, self.shop.shop_id, started)
            await self.settle()
        except Transient as error:
            log.warning("payouts_not_judged", account=self.shop.account, error=type(error).__name__)
        self.beat()

    async def _guarded(self, read: Callable[[], Awaitable[object]]) -> bool:
        try:
            async with self.breaker.guard(self.shop.account, self.outbox):
                with new_trace("read money", attributes={"bridge.account": self.shop.account}):
                    await read()
        except (Refused, Transient, UnknownOutcome) as error:
            log.warning("money_not_read", account=self.shop.account, error=type(error).__name__, reason=str(error))
            return False
        return True

    @property
    def market(self) -> str:
        """The marketplace's name."""
        return self.shop.marketplace_name

    async def _in_transaction(self, work: Callable[[Transaction], Awaitable[int]]) -> int:
        async def once(end_blockers: bool) -> int:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                return await work(tx)

        return await patiently(once)

    async def settle(self) -> None:
        """Book what has an account by now, and judge the payouts that are due."""
        while await self._in_transaction(lambda tx: settle_suspense(tx, self.market)):
            self.beat()
        shop = self.shop.shop_id
        for cycle in await to_judge(self.outbox.database, self.market, shop):

            async def once(tx: Transaction, cycle: str = cycle) -> int:
                return int(await judge(tx, self.market, cycle) is not None)

            await self._in_transaction(once)
            self.beat()

    # Billing cycles -------------------------------------------------------------------------------------

    @property
    def _cycles(self) -> str:
        return f"billing-cycles/{self.shop.account}"

    async def _cycles_are_due(self) -> bool:
        try:
            cursor = await read_cursor(self.outbox.database, self._cycles, CYCLES_COVER)
        except Transient:
            return False
        return cursor is None or cursor.until + self.cycles_every <= self.clock.now()

    async def read_cycles(self) -> int:
        """What Mirakl paid out since it is ours to know; how many cycles were news."""
        name, now = self._cycles, self.clock.now()
        cursor = await read_cursor(self.outbox.database, name, CYCLES_COVER)
        # Of a cycle that ended before, only the lines that changed since would be read.
        since = cursor.since if cursor is not None else self._begin()
        news = 0
        async with aclosing(self.client.list_billing_cycles(created_from=max(since, now - CYCLES_LOOK_BACK))) as pages:
            async for page in pages:
                cycles = [one for one in page.data if one.date_created >= since]
                news += await self._in_transaction(
                    lambda tx, cycles=cycles: report(tx, self.market, self.shop.shop_id, cycles)  # type: ignore[misc]
                )
                self.beat()
        async with self.outbox.transaction() as tx:
            await move_cursor(tx, name, Cursor(CYCLES_COVER, since, now), now)
        return news

    def _begin(self) -> datetime:
        return (self.shop.orders_from or self.clock.now()) - LOOK_BACK

    # Transactions ---------------------------------------------------------------------------------------

    @property
    def _transactions(self) -> str:
        return f"transactions/{self.shop.account}"

    @property
    def _export(self) -> str:
        return f"transactions-export/{self.shop.account}"

    async def read_transactions(self) -> int:
        """Everything that changed since the last reading; how many lines were new."""
        database = self.outbox.database
        export = await read_cursor(database, self._export, EXPORT_COVERS)
        new = 0
        if export is not None and export.place is not None:
            new += await self._read_export(export)
        cursor = await read_cursor(database, self._transactions, COVERS)
        first = cursor.since if cursor is not None else self._begin()
        count = 0
        async with aclosing(
            self.client.list_transactions(updated_since=first if cursor is None else cursor.until - OVERLAP)
        ) as pages:
            async for page in pages:
                new += await self._take_in(page.data, first, COVERS)
                self.beat()
                count += 1
                if count >= self.pages_at_once and page.next_page_token and await self._export_is_free():
                    break
            else:
                return new
        return new + await self._read_export(await self._request_export(first))

    async def _take_in(self, booked: Sequence[Booked], first: datetime, covers: str) -> int:
        """Some lines and, where they come in their order, the watermark, in one transaction."""
        if not booked:
            return 0
        lines, unreadable = lines_of(booked)
        until = max(one.last_updated for one in booked) if covers == COVERS else None
        try:
            return await self._keep(lines, unreadable, first, until)
        except Permanent as error:
            log.warning("page_taken_in_one_by_one", account=self.shop.account, reason=type(error).__name__)
        new = 0
        for line in lines:
            try:
                new += await self._keep([line], [], first, None)
            except Permanent:
                unreadable.append((line.transaction_id, line.type))
        return new + await self._keep([], unreadable, first, until)

    async def _keep(
        self, lines: Sequence[Line], unreadable: Sequence[tuple[str, str]], first: datetime, until: datetime | None
    ) -> int:
        async def once(tx: Transaction) -> int:
            new = await take_in(tx, self.market, self.shop.shop_id, lines)
            await self._close_unreadable(tx, {one.transaction_id for one in lines})
            for transaction_id, kind in unreadable:
                await open_case(
                    tx,
                    UNREADABLE,
                    about=self._about(transaction_id)[:400],
                    marketplace=self.market,
                    shop=self.shop.shop_id,
                    facts={"transaction": transaction_id[:200], "type": kind[:200]},
                )
            if until is not None:
                await move_cursor(tx, self._transactions, Cursor(COVERS, first, until), tx.time)
            return new

        return await self._in_transaction(once)

    def _about(self, transaction_id: str) -> str:
        return f"transaction/{self.shop.account}/{transaction_id}"

    async def _close_unreadable(self, tx: Transaction, ids: set[str]) -> None:
        """Lines that could not be held once, and can be now."""
        open_ones = await tx.fetch("SELECT about FROM cases WHERE code = $1 AND closed_at IS NULL", UNREADABLE)
        for row in open_ones:
            if row["about"].removeprefix(self._about("")) in ids:
                await close_cases(tx, about=row["about"], code=UNREADABLE, explanation="The line can be read now.")

    async def _export_is_free(self) -> bool:
        """Once a day (TL03)."""
        cursor = await read_cursor(self.outbox.database, self._export, EXPORT_COVERS)
        return cursor is None or cursor.until + timedelta(days=1) <= self.clock.now()

    async def _request_export(self, first: datetime) -> Cursor:
        """Ask for the rest as an export. Its tracking id is kept: a restart goes on with it."""
        cursor = await read_cursor(self.outbox.database, self._transactions, COVERS)
        since = cursor.until - OVERLAP if cursor is not None else first
        tracking_id = await self.client.request_transaction_export(updated_since=since)
        export = Cursor(EXPORT_COVERS, since, self.clock.now(), tracking_id)
        async with self.outbox.transaction() as tx:
            await move_cursor(tx, self._export, export, tx.time)
        return export

    async def _read_export(self, export: Cursor) -> int:
        """Wait for an export and take it in; after one that failed, pages go on bringing what is left."""
        assert export.place is not None  # an export that is under way
        status = await self.client.read_transaction_export(export.place)
        while status.status == "PENDING":
            await self.clock.sleep_until(self.clock.now() + _EXPORT_LOOKS)
            self.beat()
            status = await self.client.read_transaction_export(export.place)
        new, until = 0, None
        if status.status == "COMPLETED":
            for url in status.urls:
                some: list[Booked] = []
                async with aclosing(self.client.read_transaction_file(url)) as items:
                    async for item in items:
                        until = item.last_updated if until is None else max(until, item.last_updated)
                        some.append(item)
                        if len(some) >= _LINES_AT_ONCE:
                            new += await self._take_in(some, export.since, EXPORT_COVERS)
                            self.beat()
                            some = []
                new += await self._take_in(some, export.since, EXPORT_COVERS)
        else:
            log.warning("export_failed", account=self.shop.account, status=status.status)
        async with self.outbox.transaction() as tx:
            if until is not None:
                cursor = await read_cursor(tx, self._transactions, COVERS)
                since = cursor.since if cursor is not None else export.since
                await move_cursor(tx, self._transactions, Cursor(COVERS, since, until), tx.time)
            await move_cursor(tx, self._export, Cursor(EXPORT_COVERS, export.since, export.until), tx.time)
        return new


def lines_of(booked: Iterable[Booked]) -> tuple[list[Line], list[tuple[str, str]]]:
    """Transactions as the ledger keeps them; id and type of those whose amount or currency no ledger can hold."""
    lines: list[Line] = []
    unreadable: list[tuple[str, str]] = []
    for one in booked:
        try:
            amount = Money(plain(one.amount), one.currency_iso_code)
        except ValueError:
            unreadable.append((one.id, one.type))
            continue
        belongs = one.entities
        lines.append(
            Line(
                transaction_id=one.id,
                type=one.type,
                amount=amount,
                created_at=one.date_created or one.last_updated,
                updated_at=one.last_updated,
                state=one.payment_state or "",
                order_id=_id(belongs.order) if belongs is not None else None,
                line_id=_id(belongs.order_line) if belongs is not None else None,
                refund_id=_id(belongs.refund) if belongs is not None else None,
                cycle=one.seller_billing_cycle_id or None,
                document=one.accounting_document_number or None,
            )
        )
    return lines, unreadable


def _id(part: object) -> str | None:
    return getattr(part, "id", None) or None


async def pause(clock: BusinessClock, until: datetime, stop: asyncio.Event, beat: Callable[[], None]) -> None:
    """Wait until a business time, or `stop`; the loop shows meanwhile that it lives."""
    waits = {asyncio.create_task(clock.sleep_until(until)), asyncio.create_task(stop.wait())}
    try:
        while not any(one.done() for one in waits):
            beat()
            await asyncio.wait(waits, timeout=10.0, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
