"""An open Mirakl, and the ledger's own parts moved by hand or running."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.mirakl.config import ACCOUNTANCY, SHOP_ADMIN, SandboxConfig
from services.finance_ledger.__main__ import MIGRATIONS, serve
from services.finance_ledger.following import handlers
from services.finance_ledger.reading import Reading
from shared.breaker import Breaker
from shared.budget import CallBudget
from shared.clients import mirakl_client
from shared.clock import BusinessClock, jump
from shared.codec import decode
from shared.database import Database, migrate
from shared.events.base import Event
from shared.handlers import Received
from shared.leases import Leases
from shared.money import Money
from shared.outbox import Outbox, decode_headers
from shared.topics import LEDGER, topic_of
from tests.services.order_ingestor.kit import SPEED, Ground, envelope_of, ground, mirakl_config, until

__all__ = ["Ledger", "ledger", "money", "until"]

PLAIN = [{"sku": "SKU-000001", "price": "100.00", "shipping_price": "5.00"}]
"""A sale of 105.00; the marketplace keeps 15.75, and 3.15 of tax on that."""


def money(amount: str, currency: str = "EUR") -> Money:
    return Money(Decimal(amount), currency)


def config(speed: float = SPEED) -> SandboxConfig:
    """Keys that may read transactions too."""
    made = mirakl_config(speed)
    for market in made.marketplaces:
        for key in market.keys:
            key.roles = [SHOP_ADMIN, ACCOUNTANCY]
    return made


@dataclass
class Ledger:
    """What a test sees: the marketplace from inside, and the ledger's tables and events."""

    ground: Ground
    database: Database
    outbox: Outbox
    clock: BusinessClock
    session: aiohttp.ClientSession
    numbers: int = 0
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def market(self) -> str:
        return self.ground.market

    # The outside --------------------------------------------------------------------------------------

    async def sell(self, count: int = 1, shop: int = 2001, **request: Any) -> list[str]:
        return await self.ground.sell(count, shop, **({"state": "RECEIVED", "lines": PLAIN} | request))

    async def charge(self, kind: str, amount: str, **details: Any) -> None:
        """What the operator charges or credits by hand."""
        body = {"marketplace": "alpha", "shop": 2001, "type": kind, "amount": amount} | details
        await self.ground.control(self.ground.mirakl_url, "POST", "/ledger", body)

    async def pay_out(self, **details: Any) -> list[dict[str, Any]]:
        """End the shop's billing cycle; the payouts."""
        body = {"marketplace": "alpha", "shop": 2001} | details
        answer = await self.ground.control(self.ground.mirakl_url, "POST", "/payouts", body)
        found: list[dict[str, Any]] = answer["payouts"]
        return found

    # The inside ---------------------------------------------------------------------------------------

    def reading(self, shop: str = "2001", **more: Any) -> Reading:
        """A shop's reading, as one process has it."""
        market = self.market + ("-net" if shop >= "3000" else "")
        settings = self.ground.settings.shop(market, shop)
        gate = CallBudget(self.database, self.clock, pages_count={"TL02": False})
        return Reading(
            settings,
            mirakl_client(self.session, settings, LEDGER, gate),
            self.outbox,
            self.clock,
            Breaker(self.database, self.clock, self.holder),
            Leases(self.database, self.holder),
            **more,
        )

    async def read(self, shop: str = "2001", **more: Any) -> None:
        """A day later: everything is read and judged."""
        await jump(self.database, timedelta(days=1, minutes=1))
        await self.clock.synchronize(self.database)
        await self.reading(shop, **more).round()

    async def tell(self, event: Event) -> None:
        """Let the reactors handle an event as their consumer would."""
        self.numbers += 1
        received = Received(event, envelope_of(event, self.numbers), topic_of(type(event)).name, 0, self.numbers)
        async with self.outbox.transaction() as tx:
            await handlers().routes[type(event).TYPE].handler.apply([received], tx)

    async def said(self, kind: type[Event] | None = None) -> list[Any]:
        """The events that wait for the relay, in their order."""
        rows = await self.database.fetch("SELECT value, headers FROM outbox ORDER BY position")
        events = [decode(dict(decode_headers(row["headers"]))["ce_type"].decode(), row["value"]) for row in rows]
        return [event for event in events if kind is None or isinstance(event, kind)]

    async def balances(self) -> dict[str, Decimal]:
        """What stands on every account, debit above zero."""
        rows = await self.database.fetch(
            """SELECT account, sum(amount) AS amount FROM (
                   SELECT debit_account AS account, amount FROM journal
                   UNION ALL SELECT credit_account, -amount FROM journal) AS sides
               GROUP BY account HAVING sum(amount) <> 0"""
        )
        return {row["account"]: row["amount"] for row in rows}

    async def payouts(self) -> Sequence[Mapping[str, Any]]:
        return await self.database.fetch("SELECT * FROM cycles ORDER BY closed_at, cycle")

    async def cases(self, *, still_open: bool = True) -> list[str]:
        rows = await self.database.fetch(
            "SELECT code FROM cases WHERE (closed_at IS NULL) OR NOT $1 ORDER BY code", still_open
        )
        return [row["code"] for row in rows]

    @asynccontextmanager
    async def service(self, **more: Any) -> AsyncIterator[None]:
        """The service runs until the block ends."""
        stop = asyncio.Event()
        running = asyncio.create_task(serve(self.ground.settings, stop, telemetry=False, **more))
        try:
            yield
        finally:
            stop.set()
            await running


@asynccontextmanager
async def ledger(
    database_url: str,
    folder: Path,
    *,
    kafka: str = "127.0.0.1:1",
    mirakl: SandboxConfig | None = None,
) -> AsyncIterator[Ledger]:
    """A marketplace and an empty, migrated ledger."""
    async with ground(kafka, database_url, folder, mirakl=mirakl or config()) as here:
        await migrate(here.settings.database_url, "finance_ledger", MIGRATIONS)
        async with (
            await Database.connect(here.settings.database_url, "finance_ledger", application="test") as database,
            aiohttp.ClientSession() as session,
        ):
            clock = BusinessClock()
            await clock.synchronize(database)
            yield Ledger(here, database, Outbox(database, LEDGER, clock), clock, session)
