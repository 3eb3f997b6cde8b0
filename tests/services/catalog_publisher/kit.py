"""An open Mirakl and an open SFCC on loopback, real Kafka and PostgreSQL, and the catalog-publisher between."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer

from sandbox.common.server import start
from sandbox.mirakl.app import SANDBOX, Sandbox
from sandbox.mirakl.app import build as build_mirakl
from sandbox.mirakl.config import KeyConfig, SandboxConfig, default_config
from sandbox.mirakl.state import Shop
from sandbox.mirakl.storefront import make_product, put_offer
from sandbox.sfcc.app import INSTANCE
from sandbox.sfcc.app import build as build_sfcc
from sandbox.sfcc.config import Config as SfccConfig
from sandbox.sfcc.config import ProductConfig
from sandbox.sfcc.instance import Instance
from services.catalog_publisher.__main__ import MIGRATIONS, serve
from shared.clock import BusinessClock, set_speed
from shared.codec import decode
from shared.database import Database, migrate
from shared.envelope import from_record
from shared.events.base import Event
from shared.events.control import MappingRemoved, MappingSet
from shared.kafka import BatchProducer, Partition, ensure_topics, partition_of
from shared.settings import ServiceSettings, load
from shared.topics import CATALOG, CONTROL_ROOM, TOPICS, topic_of
from tests.kit.flow import record_parts

SPEED = 120.0
"""Two minutes are a second."""
SECRETS = {
    "SFCC_SECRET": "am-secret",
    "SLAS_SECRET": "slas-secret",
    "KEY_NORTH": "alpha-north-key",
    "KEY_SOUTH": "alpha-south-key",
}

TOML = """
[kafka]
bootstrap_servers = ["{kafka}"]
[postgres]
url = "{database}"
max_connections = 500
[health]
port = 0
[sfcc]
short_code = "kv7kzm78"
organization_id = "f_ecom_zzsb_001"
client_id = "am-client"
client_secret = "env:SFCC_SECRET"
slas_client_id = "slas-client"
slas_client_secret = "env:SLAS_SECRET"
tenant_group_id = "5f1d7c0e-2b4a-4c6e-9a53-0d8f6b1e2c3a"
account_manager_url = "{sfcc}"
scapi_url = "{sfcc}"
{sfcc_more}
[sfcc.sites.MainSite]
time_zone = "Europe/Paris"
currencies = ["EUR"]
taxation = "gross"
payment_method = "MIRAKL"
location_group = "eu"
shipping_methods = {{ STD = "standard", EXP = "express" }}
{site}
[marketplaces.{tag}]
base_url = "{mirakl}/alpha"
time_zone = "Europe/Paris"
currencies = ["EUR"]
pages_count = false
{market}
[marketplaces.{tag}.acceptance_deadline]
hours = 48
[marketplaces.{tag}.shops.2001]
site = "MainSite"
absorption = "oci"
api_key = "env:KEY_NORTH"
mode = "{mode}"
"""


def mirakl_config(offers: int) -> SandboxConfig:
    """A key of its own per shop, no orders that end by themselves."""
    config = default_config()
    config.speed = SPEED
    config.offers, config.products = offers, max(10, offers)
    for market in config.marketplaces:
        market.acceptance_seconds = 10_000_000.0
        market.unpaid_cancel_seconds = None
        market.received_seconds = market.closed_seconds = None
    config.marketplaces[0].keys.append(KeyConfig("alpha-north-key", "nan", [2001]))
    return config


@dataclass
class Ground:
    """What a test sees: both remote systems from inside, the service's own tables, and the topics."""

    settings: ServiceSettings
    market: str
    """The marketplace's name, of this test alone: topics outlive it."""
    mirakl_url: str
    mirakl: Sandbox
    sfcc: Instance
    database: Database
    clock: BusinessClock
    web: aiohttp.ClientSession
    producer: BatchProducer
    sequence: int = 0
    _asked: int | None = None

    # The outside --------------------------------------------------------------------------------------

    @property
    def shop(self) -> Shop:
        """Shop 2001 as the marketplace holds it."""
        return self.mirakl.markets["alpha"].shops[2001]

    def sells(self, sku: str, *, ean: str | None = None, price: str = "10.00", quantity: int = 7, **more: Any) -> None:
        """The shop has an offer, of a product with this EAN."""
        market = self.mirakl.markets["alpha"]
        put_offer(market, self.shop, sku, make_product(market, ean), Decimal(price), quantity, **more)

    def knows(self, ean: str) -> None:
        """The marketplace has a product with this EAN, which the shop does not offer."""
        make_product(self.mirakl.markets["alpha"], ean)

    def stocks(self, *products: ProductConfig) -> None:
        """SFCC has these products."""
        for product in products:
            self.sfcc.catalogue.put(product)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        async with self.web.request(method, f"{self.mirakl_url}/control{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, (answer.status, text)
            return json.loads(text)

    async def fault(self, **rule: Any) -> None:
        """A call to Mirakl goes wrong."""
        await self.control("POST", "/faults", rule)

    async def rounds(self, count: int) -> bool:
        """Whether the service has been round so often since it was asked first."""
        self._asked = self._asked if self._asked is not None else self.calls("OF52")
        return self.calls("OF52") >= self._asked + count

    def calls(self, operation: str) -> int:
        return self.mirakl.recorder.calls_by_operation.get(operation, 0)

    # The topics ---------------------------------------------------------------------------------------

    async def put(self, *events: Event) -> None:
        """Events of the control room, on their topics, in this order."""
        for event in events:
            self.sequence += 1
            source = f"/sfcc-mirakl-bridge/{CONTROL_ROOM}"
            topic, key, value, headers = record_parts(event, self.sequence, source=source, time=self.clock.now())
            partition = Partition(topic, partition_of(key, topic_of(type(event)).partitions))
            await self.producer.send(partition, [(key.encode(), value, headers)], 10.0)

    async def map(self, sku: str, product: str, pack: int = 1) -> None:
        """A person maps a shop SKU."""
        await self.put(
            MappingSet(
                marketplace=self.market, kind="sku", left=sku, right=product, by="u-1", at=self.clock.now(),
                extras={"pack_quantity": str(pack)},
            )
        )  # fmt: skip

    async def map_line(self, kind: str, left: str, right: str) -> None:
        """A person says where an SFCC attribute or category goes."""
        await self.put(
            MappingSet(marketplace=self.market, kind=kind, left=left, right=right, by="u-1", at=self.clock.now())
        )

    async def unmap(self, sku: str, was: str) -> None:
        """A person takes the line away."""
        await self.put(
            MappingRemoved(
                marketplace=self.market, kind="sku", left=sku, old_right=was, by="u-1", at=self.clock.now()
            )
        )  # fmt: skip

    async def said(self, kind: type[Event]) -> list[Any]:
        """Every event of a type that the service has put on its topic for this test's marketplace."""
        reader = AIOKafkaConsumer(
            topic_of(kind).name,
            bootstrap_servers=self.settings.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
        )
        await reader.start()
        try:
            ends = await reader.end_offsets(reader.assignment())
            found: list[Any] = []
            while any([await reader.position(partition) < end for partition, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    for record in records:
                        envelope, value = from_record(record.headers, record.value)
                        if envelope.type == kind.TYPE and self.market.encode() in record.value:
                            found.append(decode(envelope.type, value))
            return found
        finally:
            await reader.stop()

    # The inside ---------------------------------------------------------------------------------------

    async def mapped(self) -> dict[str, tuple[str, int, str]]:
        """What every mapped offer sells, and why."""
        rows = await self.database.fetch(
            """SELECT shop_sku, product_id, pack_quantity, mapped_by FROM offers
               WHERE marketplace = $1 AND product_id IS NOT NULL""",
            self.market,
        )
        return {row["shop_sku"]: (row["product_id"], row["pack_quantity"], row["mapped_by"]) for row in rows}

    async def cases(self, *, still_open: bool = True) -> Sequence[Mapping[str, Any]]:
        rows = await self.database.fetch(
            "SELECT code, about, opened FROM cases WHERE (closed_at IS NULL) OR NOT $1 ORDER BY code, about",
            still_open,
        )
        return [dict(row) | {"opened": json.loads(row["opened"])} for row in rows]

    @asynccontextmanager
    async def service(self) -> AsyncIterator[None]:
        """The service runs until the block ends."""
        stop = asyncio.Event()
        running = asyncio.create_task(serve(self.settings, stop, telemetry=False))
        try:
            yield
        finally:
            stop.set()
            await running


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 150.0) -> None:
    """Wait for the moment when something holds."""
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def ground(
    kafka: str,
    database_url: str,
    folder: Path,
    *,
    offers: int = 0,
    products: Sequence[ProductConfig] = (),
    mode: str = "live",
    market: str = "",
    site: str = "",
    webdav: bool = False,
) -> AsyncIterator[Ground]:
    """Both sandboxes and an empty, migrated database."""
    tag = f"m{uuid.uuid4().hex[:8]}"
    config = SfccConfig(clock_speed=SPEED, product_count=0, products=list(products))
    mirakl_app = build_mirakl(mirakl_config(offers), seed=7)
    sfcc_app = build_sfcc(config, 7)
    mirakl_bound, sfcc_bound = await start(mirakl_app), await start(sfcc_app)
    path = folder / "bridge.toml"
    path.write_text(
        TOML.format(
            kafka=kafka,
            database=database_url,
            mirakl=mirakl_bound.url,
            sfcc=sfcc_bound.url,
            sfcc_more=f'webdav_url = "{sfcc_bound.url}"' if webdav else "",
            tag=tag,
            mode=mode,
            market=market,
            site=site,
        )
    )
    settings = load(CATALOG, {"BRIDGE_CONFIG": str(path)} | SECRETS)
    await migrate(settings.database_url, "catalog_publisher", MIGRATIONS)
    await ensure_topics(settings.kafka, TOPICS)
    producer = BatchProducer(settings.kafka, client_id="test")
    await producer.start()
    try:
        async with (
            await Database.connect(settings.database_url, "catalog_publisher", application="test") as database,
            aiohttp.ClientSession() as web,
        ):
            await set_speed(database, SPEED)
            clock = BusinessClock()
            await clock.synchronize(database)
            yield Ground(
                settings, tag, mirakl_bound.url, mirakl_app[SANDBOX], sfcc_app[INSTANCE], database, clock, web, producer
            )
    finally:
        await producer.stop()
        await mirakl_bound.stop()
        await sfcc_bound.stop()
