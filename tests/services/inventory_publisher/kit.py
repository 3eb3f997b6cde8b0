"""An open Mirakl and an open SFCC on loopback, real Kafka and PostgreSQL, and the inventory-publisher between."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer

from sandbox.common.server import start
from sandbox.mirakl.app import SANDBOX, Sandbox
from sandbox.mirakl.app import build as build_mirakl
from sandbox.mirakl.config import KeyConfig, SandboxConfig, default_config
from sandbox.sfcc.app import INSTANCE
from sandbox.sfcc.app import build as build_sfcc
from sandbox.sfcc.config import Config as SfccConfig
from sandbox.sfcc.config import LocationGroup
from sandbox.sfcc.instance import Instance
from services.inventory_publisher.__main__ import MIGRATIONS, serve
from shared.clock import BusinessClock, jump, set_speed
from shared.codec import decode
from shared.database import Database, migrate
from shared.envelope import from_record
from shared.events.base import Event
from shared.events.catalog import OfferMapped, OfferUnmapped
from shared.events.control import OperatorDecidedHold
from shared.events.decisions import OrderStockReserved, ReservedLine
from shared.events.orders import OrderCaptured, OrderChanged, OrderFacts, OrderLine
from shared.events.stock import StockLevelReported
from shared.kafka import BatchProducer, Partition, ensure_topics, partition_of
from shared.money import Money
from shared.outbox import decode_headers
from shared.settings import ServiceSettings, load
from shared.topics import INVENTORY, TOPICS, topic_of
from tests.kit.flow import record_parts

SPEED = 60.0
"""A minute is a second."""
OUTSIDE = "/test/erp"
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
[sources]
stock-levels = ["/test/erp"]
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
[sfcc.sites.MainSite]
time_zone = "Europe/Paris"
currencies = ["EUR"]
taxation = "gross"
payment_method = "MIRAKL"
location_group = "{tag}"
shipping_methods = {{ STD = "standard", EXP = "express" }}
[marketplaces.{tag}]
base_url = "{mirakl}/alpha"
time_zone = "Europe/Paris"
currencies = ["EUR"]
pages_count = false
[marketplaces.{tag}.acceptance_deadline]
hours = 48
[marketplaces.{tag}.shops.2001]
site = "MainSite"
absorption = "oci"
api_key = "env:KEY_NORTH"
mode = "live"
{shop}
[marketplaces.{tag}.shops.2002]
site = "MainSite"
absorption = "oci"
api_key = "env:KEY_SOUTH"
mode = "observe"
"""


def mirakl_config(speed: float, offers: int) -> SandboxConfig:
    """A key of its own per shop, no orders that end by themselves."""
    config = default_config()
    config.speed = speed
    config.offers, config.products = offers, max(50, offers)
    config.marketplaces[0].shops[1].offers = config.marketplaces[1].shops[0].offers = 5
    config.marketplaces[1].shops[1].offers = 5
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
    place: str
    """The location group whose stock is sold."""
    mirakl_url: str
    sfcc_url: str
    mirakl: Sandbox
    sfcc: Instance
    database: Database
    clock: BusinessClock
    web: aiohttp.ClientSession
    producer: BatchProducer
    every: timedelta
    sequence: int = 0
    orders: set[int] = field(default_factory=set)
    began: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.now()

    # The outside --------------------------------------------------------------------------------------

    async def control(self, url: str, method: str, path: str, body: Any = None) -> Any:
        async with self.web.request(method, f"{url}/control{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, (answer.status, text)
            return json.loads(text)

    async def count(self, product: str, on_hand: int | str) -> None:
        """The warehouse counts a product anew."""
        body = {"product_id": product, "on_hand": on_hand, "place": "warehouse_north"}
        await self.control(self.sfcc_url, "PUT", "/stock", body)

    async def fault(self, **rule: Any) -> None:
        """A call to Mirakl goes wrong."""
        await self.control(self.mirakl_url, "POST", "/faults", rule)

    async def out(self, seconds: float) -> None:
        """SFCC takes no connection for so long; 0 ends it."""
        await self.control(self.sfcc_url, "POST", "/outage", {"seconds": seconds, "status": 0})

    async def jump(self, by: timedelta) -> None:
        """Time passes, for the service and for both remote systems."""
        await jump(self.database, by)
        self.mirakl.clock.advance(by.total_seconds())
        self.sfcc.clock.advance(by.total_seconds())

    async def behave(self, **choices: Any) -> None:
        await self.control(self.mirakl_url, "PATCH", "/behaviour/alpha", choices)

    @property
    def skus(self) -> list[str]:
        """The offers of shop 2001."""
        return list(self.mirakl.markets["alpha"].shops[2001].offers)

    def on_show(self, sku: str, shop: int = 2001) -> int:
        """What the marketplace shows of an offer."""
        return self.mirakl.markets["alpha"].shops[shop].offers[sku].quantity

    def calls(self, operation: str) -> int:
        return self.mirakl.recorder.calls_by_operation.get(operation, 0)

    # The topics ---------------------------------------------------------------------------------------

    async def put(self, *events: Event, source: str = "/test") -> None:
        """Events of other services, on their topics, in this order."""
        batches: dict[Partition, list[tuple[bytes, bytes, Any]]] = {}
        for event in events:
            self.sequence += 1
            topic, key, value, headers = record_parts(event, self.sequence, source=source, time=self.clock.now())
            partition = Partition(topic, partition_of(key, topic_of(type(event)).partitions))
            batches.setdefault(partition, []).append((key.encode(), value, headers))
        for partition, records in batches.items():
            await self.producer.send(partition, records, 10.0)

    def level(self, product: str, ats: int | str, at: datetime) -> StockLevelReported:
        """What an outside producer says."""
        return StockLevelReported(product_id=product, place=self.place, place_kind="group", as_of=at, ats=Decimal(ats))

    async def map(self, *pairs: tuple[str, str], pack: int = 1, shop: str = "2001") -> None:
        """These offers sell these products."""
        await self.put(
            *(
                OfferMapped(
                    marketplace=self.market, shop=shop, shop_sku=sku, product_id=product, pack_quantity=pack,
                    mapped_by="same-sku", mapped_at=self.clock.now(),
                )
                for sku, product in pairs
            )
        )  # fmt: skip

    async def unmap(self, sku: str) -> None:
        """Nobody sells this offer any more."""
        await self.put(OfferUnmapped(marketplace=self.market, shop="2001", shop_sku=sku, unmapped_at=self.clock.now()))

    def order(self, number: int, state: str, *lines: tuple[str, str, int], fulfilled_by: str = "DEFAULT") -> OrderFacts:
        """An order as order-ingestor tells of it: lines of SKU, product and pieces; the first word is its capture."""
        nothing, now = Money(Decimal(0), "EUR"), self.clock.now()
        facts: dict[str, Any] = {
            "marketplace": self.market, "shop": "2001", "order_id": f"O-{number}", "commercial_id": f"O-{number}",
            "state": state, "created_at": now, "last_updated_at": now, "currency": "EUR", "tax_mode": "TAX_INCLUDED",
            "price": nothing, "shipping_price": nothing, "total_price": nothing, "total_commission": nothing,
            "fulfillment_center_code": fulfilled_by,
            "lines": tuple(
                OrderLine(
                    line_id=f"O-{number}-{place}", state=state, shop_sku=sku, product_id=product, quantity=quantity,
                    unit_price=nothing, price=nothing, shipping_price=nothing, total_price=nothing,
                    commission_fee=nothing, total_commission=nothing,
                )
                for place, (sku, product, quantity) in enumerate(lines, 1)
            ),
        }  # fmt: skip
        if number in self.orders:
            return OrderChanged(**facts, read_at=now)
        self.orders.add(number)
        return OrderCaptured(**facts, captured_at=now, captured_by="poll")

    def reserved(self, number: int, product: str, quantity: int) -> OrderStockReserved:
        """OCI's answer to the acceptor, a moment ago."""
        line = ReservedLine(
            line_id=f"O-{number}-1", product_id=product, place=self.place, wanted=Decimal(quantity),
            reserved=Decimal(quantity),
        )  # fmt: skip
        return OrderStockReserved(
            marketplace=self.market, shop="2001", order_id=f"O-{number}", reservation_id=f"R-{number}", lines=(line,),
            complete=True, answered_at=self.clock.now(),
        )  # fmt: skip

    async def said(self, kind: type[Event]) -> list[Any]:
        """Every event of a type that the service has published for this test's marketplace, relayed or not yet."""
        topic = topic_of(kind).name
        waiting = await self.database.fetch("SELECT value, headers FROM outbox WHERE topic = $1", topic)
        found = [(from_record(decode_headers(row["headers"]), row["value"])) for row in waiting]
        reader = AIOKafkaConsumer(
            topic, bootstrap_servers=self.settings.kafka.bootstrap_servers, auto_offset_reset="earliest"
        )
        await reader.start()
        try:
            ends = await reader.end_offsets(reader.assignment())
            while any([await reader.position(partition) < end for partition, end in ends.items()]):
                for records in (await reader.getmany(timeout_ms=200)).values():
                    found += [from_record(record.headers, record.value) for record in records]
        finally:
            await reader.stop()
        ours = {
            envelope.id: (envelope.subject, envelope.sequence, decode(envelope.type, value))
            for envelope, value in found
            if envelope.type == kind.TYPE and self.market.encode() in value
        }
        return [event for _, _, event in sorted(ours.values(), key=lambda one: one[:2])]

    # The inside ---------------------------------------------------------------------------------------

    async def offer(self, sku: str, shop: str = "2001") -> Mapping[str, Any]:
        row = await self.database.fetchrow(
            "SELECT * FROM offers WHERE (marketplace, shop, shop_sku) = ($1, $2, $3)", self.market, shop, sku
        )
        return row or {}

    async def cases(self, *, still_open: bool = True) -> Sequence[str]:
        rows = await self.database.fetch(
            "SELECT code FROM cases WHERE (closed_at IS NULL) OR NOT $1 ORDER BY code", still_open
        )
        return [row["code"] for row in rows]

    async def decide(self, *, approved: bool) -> None:
        """A person decides on what is held."""
        case_id = await self.database.fetchval("SELECT case_id FROM cases WHERE code = 'stock-mass-zero'")
        await self.put(
            OperatorDecidedHold(
                about=f"shop/{self.market}/2001", by="u-1", role="operations", at=self.clock.now(),
                service=INVENTORY, case_id=case_id, approved=approved,
            )
        )  # fmt: skip

    async def held(self) -> int:
        found: int = await self.database.fetchval("SELECT count(*) FROM offers WHERE hold_case IS NOT NULL")
        return found

    async def confirmed(self, expected: Mapping[str, int]) -> bool:
        """Whether the marketplace shows these quantities, and has confirmed each."""
        rows = await self.database.fetch(
            """SELECT shop_sku, shown FROM offers WHERE (marketplace, shop) = ($1, '2001') AND shop_sku = ANY($2)
               AND confirmed_at IS NOT NULL AND NOT dirty""",
            self.market,
            list(expected),
        )
        return {row["shop_sku"]: row["shown"] for row in rows} == expected and all(
            self.on_show(sku) == quantity for sku, quantity in expected.items()
        )

    def sometime(self, minutes: float) -> datetime:
        """So many minutes after the beginning."""
        return self.began + timedelta(minutes=minutes)

    @asynccontextmanager
    async def service(self) -> AsyncIterator[None]:
        """The service runs until the block ends; a second one at the same time is another replica."""
        stop = asyncio.Event()
        running = asyncio.create_task(serve(self.settings, stop, telemetry=False, every=self.every))
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
    speed: float = SPEED,
    offers: int = 20,
    products: int = 12,
    oci: bool = True,
    shop: str = "",
    more: str = "",
) -> AsyncIterator[Ground]:
    """Both sandboxes and an empty, migrated database. Without `oci` only outside producers tell of stock.

    `shop` are settings of shop 2001, `more` are further tables.
    """
    tag = f"m{uuid.uuid4().hex[:8]}"
    config = SfccConfig(clock_speed=speed, product_count=products)
    config.groups = [LocationGroup(id=tag, locations=["warehouse_north", "warehouse_south"] if oci else [])]
    for site in config.sites:
        site.inventory_group = tag
    mirakl_app = build_mirakl(mirakl_config(speed, offers), seed=7)
    sfcc_app = build_sfcc(config, 7)
    mirakl_bound, sfcc_bound = await start(mirakl_app), await start(sfcc_app)
    path = folder / "bridge.toml"
    path.write_text(
        TOML.format(
            kafka=kafka,
            database=database_url,
            mirakl=mirakl_bound.url,
            sfcc=sfcc_bound.url,
            tag=tag,
            shop=shop,
        )
        + more
    )
    settings = load(INVENTORY, {"BRIDGE_CONFIG": str(path)} | SECRETS)
    await migrate(settings.database_url, "inventory_publisher", MIGRATIONS)
    await ensure_topics(settings.kafka, TOPICS)
    producer = BatchProducer(settings.kafka, client_id="test")
    await producer.start()
    try:
        async with (
            await Database.connect(settings.database_url, "inventory_publisher", application="test") as database,
            aiohttp.ClientSession() as web,
        ):
            await set_speed(database, speed)
            clock = BusinessClock()
            await clock.synchronize(database)
            yield Ground(
                settings, tag, tag, mirakl_bound.url, sfcc_bound.url, mirakl_app[SANDBOX], sfcc_app[INSTANCE], database,
                clock, web, producer, timedelta(seconds=speed / 4),
            )  # fmt: skip
    finally:
        await producer.stop()
        await mirakl_bound.stop()
        await sfcc_bound.stop()
