"""Orders come from an open Mirakl through order-ingestor; the acceptor answers them with an open SFCC's stock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaConsumer

from services.acceptor.__main__ import MIGRATIONS, PACE, serve
from services.order_ingestor.__main__ import serve as ingest
from shared.clock import jump
from shared.codec import decode
from shared.database import Database, migrate
from shared.envelope import from_record
from shared.events.base import Event
from shared.events.control import MappingSet, OperatorAnsweredOrder, OperatorSettledObligation
from shared.events.decisions import LineAnswer
from shared.events.stock import OfferStockComputed
from shared.obligations import Pace
from tests.services.order_ingestor.kit import SECRETS, SPEED, Ground, ground, until

__all__ = ["SPEED", "Answering", "answering", "until"]


@dataclass
class Answering:
    """What a test sees: the ground, and the acceptor's own tables."""

    ground: Ground
    database: Database
    numbers: int = 0

    # The outside --------------------------------------------------------------------------------------

    def skus(self, shop: int = 2001) -> list[str]:
        """What the shop offers."""
        return list(self.ground.mirakl.markets["alpha"].shops[shop].offers)

    async def sell(self, *lines: tuple[str, int], shop: int = 2001, count: int = 1, **more: Any) -> list[str]:
        """Orders that wait for their answer; without lines, of what there is."""
        wanted = {"lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines]} if lines else {}
        return await self.ground.sell(count, shop, **({"state": "WAITING_ACCEPTANCE"} | wanted | more))

    async def map(self, *pairs: tuple[str, str], pack: int = 1, shop: int = 2001) -> None:
        """Offers sell these products."""
        await self.ground.put(*(self.ground.mapped(sku, product, pack, str(shop)) for sku, product in pairs))

    async def map_by_hand(self, sku: str, product: str) -> None:
        """A person puts a line into the table of SKUs."""
        self.numbers += 1
        await self.ground.put(
            MappingSet(
                marketplace=self.ground.market,
                kind="sku",
                left=sku,
                right=product,
                by="u-operator",
                at=self.ground.mirakl.clock.now(),
            )
        )

    async def stock(
        self, sku: str, product: str, ats: int, shop: int = 2001, counted_at: datetime | None = None
    ) -> None:
        """inventory-publisher says what an offer's stock is."""
        now = await self.now()
        await self.ground.put(
            OfferStockComputed(
                marketplace=self.ground.market,
                shop=str(shop),
                shop_sku=sku,
                quantity=max(ats, 0),
                product_id=product,
                ats=Decimal(ats),
                as_of=now,
                computed_at=now,
                buffer=Decimal(0),
                open_units=Decimal(0),
                rule="share - buffer - open",
                counted_at=counted_at,
            )
        )

    async def count_stock(self, product: str, units: int) -> None:
        """The warehouse counts a product anew."""
        body = {"product_id": product, "place": "warehouse_north", "on_hand": units}
        await self.ground.control(self.ground.sfcc_url, "PUT", "/stock", body)

    async def answer_by_hand(self, order_id: str, answers: Mapping[str, bool]) -> None:
        """A person answers in the control room."""
        await self.ground.put(
            OperatorAnsweredOrder(
                about=f"order/{self.ground.market}/{order_id}",
                by="u-operator",
                role="operations",
                at=self.ground.mirakl.clock.now(),
                marketplace=self.ground.market,
                order_id=order_id,
                lines=tuple(
                    LineAnswer(line_id=line, accepted=accepted, reason="operator") for line, accepted in answers.items()
                ),
            )
        )

    async def settle_by_hand(self, code: str, outcome: Literal["happened", "did-not-happen", "give-up"]) -> None:
        """A person says what became of the obligation that a case asks about."""
        cause = await self.database.fetchval("SELECT cause FROM cases WHERE code = $1 AND closed_at IS NULL", code)
        _, service, obligation_id = cause.split("/")
        await self.ground.put(
            OperatorSettledObligation(
                about=cause,
                by="u-operator",
                role="operations",
                at=self.ground.mirakl.clock.now(),
                service=service,
                obligation_id=obligation_id,
                outcome=outcome,
            )
        )

    async def cancel_piece(self, order_id: str, number: int) -> None:
        """One of two pieces of a line is cancelled at the marketplace (OR30)."""
        line = self.at_mirakl(order_id).lines[number]
        part = {
            "order_line_id": line.id,
            "amount": str(line.price / 2),
            "shipping_amount": 0,
            "quantity": 1,
            "reason_code": "35",
        }
        url = f"{self.ground.mirakl_url}/alpha/api/orders/cancel?shop_id=2001"
        headers = {"Authorization": SECRETS["KEY_NORTH"]}
        async with self.ground.web.put(url, json={"cancelations": [part]}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    def at_mirakl(self, order_id: str) -> Any:
        """The order as the marketplace has it."""
        found = self.ground.mirakl.markets["alpha"].find_order(order_id)
        assert found is not None
        return found

    def line_states(self, order_id: str) -> list[str]:
        return [line.state for line in self.at_mirakl(order_id).lines]

    def calls(self, operation: str) -> list[Any]:
        """What arrived at the marketplace."""
        return self.ground.mirakl.recorder.calls(operation)

    def reserved(self, product: str) -> Decimal:
        """What SFCC holds of a product for orders."""
        return self.ground.sfcc.stock.reserved("GROUP", "web", product)

    async def fault(self, url: str, **rule: Any) -> None:
        await self.ground.control(url, "POST", "/faults", rule)

    async def jump(self, by: timedelta) -> None:
        """Time passes, for the services and for both remote systems."""
        await jump(self.database, by)
        self.ground.mirakl.clock.advance(by.total_seconds())
        self.ground.sfcc.clock.advance(by.total_seconds())

    # The inside ---------------------------------------------------------------------------------------

    async def now(self) -> Any:
        return await self.database.fetchval(
            "SELECT business + (clock_timestamp() - real) * speed FROM bridge.clock WHERE only_row"
        )

    async def stage(self, order_id: str) -> str | None:
        found: str | None = await self.database.fetchval("SELECT stage FROM orders WHERE order_id = $1", order_id)
        return found

    async def stages(self) -> dict[str, int]:
        rows = await self.database.fetch("SELECT stage, count(*) AS n FROM orders GROUP BY stage")
        return {row["stage"]: row["n"] for row in rows}

    async def document(self, order_id: str) -> Any:
        return msgspec.json.decode(
            await self.database.fetchval("SELECT document FROM orders WHERE order_id = $1", order_id)
        )

    async def cases(self, *, still_open: bool = True) -> list[str]:
        rows = await self.database.fetch(
            "SELECT code FROM cases WHERE closed_at IS NULL OR NOT $1 ORDER BY code", still_open
        )
        return [row["code"] for row in rows]

    async def steps(self, code: str) -> list[str]:
        found: list[str] | None = await self.database.fetchval("SELECT steps FROM cases WHERE code = $1", code)
        return found or []

    async def told(self, order_id: str, *last: str, seconds: float = 120.0) -> list[Event]:
        """What the acceptor says of an order, in its order, once it has said one of `last`."""
        consumer = AIOKafkaConsumer(
            "order-decisions",
            bootstrap_servers=self.ground.settings.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        events: list[Event] = []
        try:
            async with asyncio.timeout(seconds):
                while not any(event.TYPE in last for event in events):
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        for one in records:
                            if one.key.decode() == f"{self.ground.market}/{order_id}":
                                envelope = from_record(one.headers, one.value)[0]
                                events.append(decode(envelope.type, one.value))
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await consumer.stop()
        return events

    @asynccontextmanager
    async def acceptor(self, pace: Pace = PACE) -> AsyncIterator[None]:
        """The acceptor runs until the block ends; a second one at the same time is another replica."""
        stop = asyncio.Event()
        running = asyncio.create_task(serve(self.ground.settings, stop, telemetry=False, pace=pace))
        try:
            yield
        finally:
            stop.set()
            await running

    @asynccontextmanager
    async def ingestor(self) -> AsyncIterator[None]:
        """Order-ingestor reads the marketplace until the block ends."""
        stop = asyncio.Event()
        settings = replace(self.ground.settings, connections=6)
        running = asyncio.create_task(ingest(settings, stop, telemetry=False))
        try:
            yield
        finally:
            stop.set()
            await running

    @asynccontextmanager
    async def services(self) -> AsyncIterator[None]:
        """Both, side by side in one process."""
        async with self.acceptor(), self.ingestor():
            yield


@asynccontextmanager
async def answering(kafka: str, database_url: str, folder: Path, **more: Any) -> AsyncIterator[Answering]:
    """Both sandboxes, and a database for both services."""
    async with ground(kafka, database_url, folder, **more) as here:
        await migrate(here.settings.database_url, "acceptor", MIGRATIONS)
        async with await Database.connect(here.settings.database_url, "acceptor", application="test") as database:
            yield Answering(here, database)
