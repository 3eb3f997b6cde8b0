"""Orders that stand in SFCC, a warehouse that ships them, and the notifier between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from sandbox.mirakl.state import Order as SandboxOrder
from services.order_ingestor.__main__ import serve as serve_orders
from services.shipment_notifier import store
from services.shipment_notifier.__main__ import MIGRATIONS, PACE, serve
from services.shipment_notifier.model import Order, Parcel
from shared.codec import decode
from shared.database import Database, migrate
from shared.events.base import Event
from shared.events.control import MappingSet
from shared.mappings import spoken
from shared.obligations import Pace
from shared.settings import ServiceSettings
from shared.topics import topic
from tests.services.order_ingestor.kit import Ground, ground, mirakl_config, until

SOON = timedelta(seconds=5)


@dataclass
class Room:
    """What a test sees."""

    ground: Ground
    database: Database
    settings: ServiceSettings
    ingestor: asyncio.Task[None] | None = None

    # The outside --------------------------------------------------------------------------------------

    @property
    def several(self) -> str:
        """The marketplace whose orders may have several shipments."""
        return f"{self.ground.market}-net"

    async def orders(self, count: int = 1, shop: int = 2001, **request: Any) -> list[str]:
        """Orders to be shipped that stand in SFCC."""
        await self.ground.map_all(shop)
        ids = await self.ground.sell(count, shop, **request)
        await self.create(ids)
        return ids

    async def create(self, ids: list[str]) -> None:
        """Let order-ingestor bring these orders into SFCC."""
        self.take_in_orders()
        await until(lambda: self._created(ids))

    def take_in_orders(self) -> None:
        """From now on order-ingestor runs. Only once: one that is ended in the middle of a call keeps its slot."""
        if self.ingestor is None:
            self.ingestor = asyncio.create_task(serve_orders(self.settings, self.ground.stop, telemetry=False))

    async def _created(self, ids: list[str]) -> bool:
        count = await self.ground.database.fetchval(
            "SELECT count(*) FROM orders WHERE stage = 'created' AND order_id = ANY($1)", ids
        )
        return int(count) == len(ids)

    def at_mirakl(self, order_id: str) -> SandboxOrder:
        """The order as the marketplace has it."""
        found = self.ground.mirakl.markets["beta" if order_id.startswith("BETA") else "alpha"].find_order(order_id)
        assert found is not None
        return found

    async def ship(self, order_id: str, **dispatch: Any) -> None:
        """The warehouse ships."""
        net = order_id.startswith("BETA")
        number = f"{self.several if net else self.ground.market}-{order_id}"
        site = "NetSite" if net else "MainSite"
        wanted = {"order_no": number, "site_id": site, "carrier": "DPD", "tracking_number": f"T-{order_id}"} | dispatch
        await self.ground.control(self.ground.sfcc_url, "POST", "/orders/ship", wanted)

    async def map(self, left: str, right: str, marketplace: str = "") -> None:
        """A person maps a carrier in the control room."""
        event = MappingSet(
            marketplace=marketplace or self.ground.market,
            kind="carrier",
            left=spoken(left),
            by="u-1",
            at=self.ground.mirakl.clock.now(),
            right=right,
        )
        await self.ground.put(event)

    async def calls(self, *operations: str) -> list[dict[str, Any]]:
        """What arrived at Mirakl, in its order."""
        calls = (await self.ground.control(self.ground.mirakl_url, "GET", "/received?limit=1000"))["calls"]
        return [one for one in calls if one["operation"] in operations]

    # The inside ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def service(self, pace: Pace = PACE) -> AsyncIterator[None]:
        """The notifier runs until the block ends, and beside it what reads the marketplace's orders."""
        self.take_in_orders()
        stop = asyncio.Event()
        running = asyncio.create_task(serve(self.settings, stop, telemetry=False, pace=pace, every=SOON))
        try:
            yield
        finally:
            stop.set()
            await running

    async def order(self, order_id: str) -> Order:
        name = self.several if order_id.startswith("BETA") else self.ground.market
        found = await store.read(self.database, (name, order_id))
        return found or Order(marketplace=name, order_id=order_id)

    async def parcels(self, order_id: str) -> list[Parcel]:
        return list((await self.order(order_id)).parcels)

    async def lists_read(self, count: int) -> bool:
        return len(await self.calls("SH21")) == count

    async def list_is_old(self, place: str) -> bool:
        """Whether the carriers were read some minutes ago, by whoever's clock."""
        name = self.several if place == "beta" else self.ground.market
        known = (await store.platforms(self.database, [name])).get(name)
        return known is not None and self.ground.mirakl.clock.now() > known.read_at + 2 * store.FRESH

    async def held(self, reason: str, *order_ids: str) -> bool:
        found = [await self.parcels(order_id) for order_id in order_ids]
        return all(parcels and all(one.held == reason for one in parcels) for parcels in found)

    async def all_announced(self, *order_ids: str) -> bool:
        found = [one for order_id in order_ids for one in await self.parcels(order_id)]
        return len(found) >= len(order_ids) and all(one.stage == "announced" for one in found)

    async def two_announced(self, *order_ids: str) -> bool:
        counts = [len(await self.parcels(order_id)) for order_id in order_ids]
        return all(count == 2 for count in counts) and await self.all_announced(*order_ids)

    async def cases(self, *, still_open: bool = True) -> list[dict[str, Any]]:
        rows = await self.database.fetch(
            "SELECT opened FROM cases WHERE closed_at IS NULL OR NOT $1 ORDER BY code, case_id", still_open
        )
        return [msgspec.json.decode(row["opened"]) for row in rows]

    async def case(self, code: str) -> bool:
        return code in [one["code"] for one in await self.cases()]

    async def _sent(self, name: str) -> bool:
        return not await self.database.fetchval("SELECT EXISTS (SELECT 1 FROM outbox WHERE topic = $1)", name)

    async def said(self, name: str) -> list[Event]:
        """The events of a topic about this test's marketplaces, key by key in their order, as soon as all are sent."""
        await until(lambda: self._sent(name))
        partitions = [TopicPartition(name, n) for n in range(topic(name).partitions)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka.bootstrap_servers, enable_auto_commit=False,
            auto_offset_reset="earliest", isolation_level="read_committed",
        )  # fmt: skip
        await consumer.start()
        try:
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            found: list[Event] = []
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    for record in (await consumer.getmany(partition, timeout_ms=200)).get(partition, []):
                        if record.key is not None and record.key.decode().startswith(self.ground.market):
                            wire_type = dict(record.headers)["ce_type"].decode()
                            found.append(decode(wire_type, record.value))
            return found
        finally:
            await consumer.stop()


@asynccontextmanager
async def room(kafka: str, database_url: str, folder: Path, *, south: str = "observe") -> AsyncIterator[Room]:
    """Both sandboxes, order-ingestor's tables and the notifier's."""
    config = mirakl_config()
    async with ground(kafka, database_url, folder, south=south, mirakl=config) as made:
        settings = replace(made.settings)
        await migrate(settings.database_url, "shipment_notifier", MIGRATIONS)
        async with await Database.connect(settings.database_url, "shipment_notifier", application="test") as database:
            here = Room(made, database, settings)
            yield here
            made.stop.set()
            if here.ingestor is not None:
                await here.ingestor


__all__ = ["Room", "room", "until"]
