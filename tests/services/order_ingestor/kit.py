"""An open Mirakl and an open SFCC on loopback, settings for them, and the service between."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.common.server import start
from sandbox.mirakl.app import SANDBOX, Sandbox
from sandbox.mirakl.app import build as build_mirakl
from sandbox.mirakl.config import KeyConfig, SandboxConfig, default_config
from sandbox.sfcc.app import INSTANCE
from sandbox.sfcc.app import build as build_sfcc
from sandbox.sfcc.config import Config as SfccConfig
from sandbox.sfcc.config import SiteConfig
from sandbox.sfcc.instance import Instance
from services.order_ingestor.__main__ import MIGRATIONS, PACE, desk_of, serve
from services.order_ingestor.capture import Intake
from services.order_ingestor.following import Following
from services.order_ingestor.owing import Desk, LinkRequest
from services.order_ingestor.polling import Poll
from shared.breaker import Breaker
from shared.clients import SFCC_ACCOUNT
from shared.clock import BusinessClock, set_speed
from shared.codec import decode
from shared.database import Database, migrate
from shared.envelope import Envelope
from shared.events.base import Event, schema_uri
from shared.events.catalog import OfferMapped
from shared.handlers import Received
from shared.http import open_session
from shared.kafka import BatchProducer, Partition, ensure_topics, partition_of
from shared.leases import Leases
from shared.obligations import Obligations, Pace, owe
from shared.outbox import Outbox, decode_headers
from shared.settings import ServiceSettings, load
from shared.telemetry import new_traceparent
from shared.topics import INGESTOR, TOPICS, topic_of
from tests.kit.flow import record_parts

SPEED = 120.0
"""A minute is half a second."""
SECRETS = {
    "SFCC_SECRET": "am-secret",
    "SLAS_SECRET": "slas-secret",
    "KEY_NORTH": "alpha-north-key",
    "KEY_SOUTH": "alpha-south-key",
    "KEY_EAST": "beta-shop-key",
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
production = {production}
account_manager_url = "{sfcc}"
scapi_url = "{sfcc}"
{instance}
[sfcc.sites.MainSite]
time_zone = "Europe/Paris"
currencies = ["EUR"]
taxation = "gross"
payment_method = "MIRAKL"
location_group = "web"
shipping_methods = {{ STD = "standard", EXP = "express" }}
[sfcc.sites.NetSite]
time_zone = "Europe/London"
currencies = ["GBP"]
taxation = "net"
payment_method = "MIRAKL"
location_group = "web"
default_shipping_method = "standard"
[marketplaces.{tag}]
base_url = "{mirakl}/alpha"
time_zone = "Europe/Paris"
currencies = ["EUR"]
pages_count = false
{marketplace}
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
mode = "{south}"
[marketplaces.{tag}-net]
base_url = "{mirakl}/beta"
time_zone = "Europe/London"
currencies = ["GBP"]
pages_count = false
[marketplaces.{tag}-net.acceptance_deadline]
hours = 48
[marketplaces.{tag}-net.shops.3001]
site = "NetSite"
absorption = "oci"
api_key = "env:KEY_EAST"
mode = "live"
"""


def mirakl_config(speed: float = SPEED) -> SandboxConfig:
    """Two marketplaces; a key of its own per shop, no limits, and nothing happens by itself."""
    config = default_config()
    config.speed = speed
    for market in config.marketplaces:
        market.behaviour.enforce_limits = False
        market.acceptance_seconds = 10_000_000.0
        market.unpaid_cancel_seconds = None
        market.received_seconds = market.closed_seconds = None
    config.marketplaces[0].keys.append(KeyConfig("alpha-north-key", "nan", [2001]))
    return config


def sfcc_config(speed: float = SPEED) -> SfccConfig:
    """The default instance, its net site in pounds."""
    config = SfccConfig(clock_speed=speed, product_count=12)
    config.sites[1] = SiteConfig(id="NetSite", taxation="net", currencies=["GBP"])
    return config


@dataclass
class Ground:
    """What a test sees: both remote systems from inside, and the service's own tables."""

    settings: ServiceSettings
    market: str
    mirakl_url: str
    sfcc_url: str
    mirakl: Sandbox
    sfcc: Instance
    database: Database
    web: aiohttp.ClientSession
    path: Path
    """Of the settings file."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    sequence: int = 0

    def change(self, old: str, new: str) -> None:
        """The settings say something else from the next start on."""
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new, 1))
        self.settings = load(INGESTOR, {"BRIDGE_CONFIG": str(self.path)} | SECRETS)

    # The outside --------------------------------------------------------------------------------------

    async def control(self, url: str, method: str, path: str, body: Any = None) -> Any:
        async with self.web.request(method, f"{url}/control{path}", json=body) as answer:
            text = await answer.text()
            assert answer.status < 300, (answer.status, text)
            return json.loads(text)

    async def sell(self, count: int = 1, shop: int = 2001, **request: Any) -> list[str]:
        """Make orders; their ids. They are to be shipped unless a state is given."""
        place = "beta" if shop >= 3000 else "alpha"
        wanted = {"marketplace": place, "shop": shop, "count": count, "state": "SHIPPING", "oversell": True} | request
        made = await self.control(self.mirakl_url, "POST", "/orders", wanted)
        return [one["order_id"] for one in made["orders"]]

    async def touch(self, order_id: str) -> None:
        """The marketplace notes something about the order: it has a newer version."""
        market = self.mirakl.markets["alpha"]
        order = market.find_order(order_id)
        assert order is not None
        shop = market.shops[order.shop_id]
        order.updated = market.clock.now() + timedelta(seconds=1)
        shop.orders_changed.touch(order, order.updated)

    async def tables_with(self, text: str) -> set[str]:
        """The tables in which a text stands somewhere."""
        names = await self.database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'order_ingestor'")
        found = set()
        for row in names:
            name = row["tablename"]
            rows = await self.database.fetch(f'SELECT t::text AS line FROM "{name}" AS t')
            hexed = text.encode().hex()
            if any(text in one["line"] or hexed in one["line"] for one in rows):
                found.add(name)
        return found

    async def act(self, order_id: str, action: str, place: str = "alpha", **details: Any) -> None:
        await self.control(self.mirakl_url, "POST", f"/orders/{place}/{order_id}/{action}", details)

    def sfcc_orders(self, site: str = "MainSite") -> list[dict[str, Any]]:
        """What stands in SFCC."""
        book = self.sfcc.sites[site].orders
        return [book.document(order) for order in book]

    def sfcc_order_of(self, order_id: str, site: str = "MainSite") -> dict[str, Any]:
        [found] = [one for one in self.sfcc_orders(site) if one.get("c_miraklOrderId") == order_id]
        return found

    # The inside ---------------------------------------------------------------------------------------

    async def row(self, order_id: str) -> Mapping[str, Any] | None:
        return await self.database.fetchrow("SELECT * FROM orders WHERE order_id = $1", order_id)

    async def stages(self) -> dict[str, int]:
        rows = await self.database.fetch("SELECT stage, count(*) AS n FROM orders GROUP BY stage")
        return {row["stage"]: row["n"] for row in rows}

    async def cases(self, *, still_open: bool = True) -> list[str]:
        rows = await self.database.fetch(
            "SELECT code FROM cases WHERE (closed_at IS NULL) OR NOT $1 ORDER BY code", still_open
        )
        return [row["code"] for row in rows]

    async def put(self, *events: Event) -> None:
        """Events of other services, on their topics."""
        await ensure_topics(self.settings.kafka, TOPICS)
        producer = BatchProducer(self.settings.kafka, client_id="test")
        await producer.start()
        for event in events:
            self.sequence += 1
            topic, key, value, headers = record_parts(event, self.sequence)
            partition = Partition(topic, partition_of(key, topic_of(type(event)).partitions))
            await producer.send(partition, [(key.encode(), value, headers)], 10.0)
        await producer.stop()

    def mapped(self, sku: str, product: str, pack: int = 1, shop: str = "2001", market: str = "") -> OfferMapped:
        return OfferMapped(
            marketplace=market or self.market,
            shop=shop,
            shop_sku=sku,
            product_id=product,
            pack_quantity=pack,
            mapped_by="same-sku",
            mapped_at=self.mirakl.clock.now(),
        )

    async def map_all(self, *shops: int) -> None:
        """Every offer of these shops sells a product."""
        events = []
        for shop in shops or (2001, 2002, 3001):
            market = self.mirakl.markets["beta" if shop >= 3000 else "alpha"]
            name = self.market + ("-net" if shop >= 3000 else "")
            for n, sku in enumerate(market.shops[shop].offers):
                events.append(self.mapped(sku, f"P{n % 12 + 1:06d}", shop=str(shop), market=name))
        await self.put(*events)

    @asynccontextmanager
    async def service(self, pace: Pace = PACE) -> AsyncIterator[None]:
        """The service runs until the block ends; a second one at the same time is another replica."""
        stop = asyncio.Event()
        running = asyncio.create_task(serve(self.settings, stop, telemetry=False, pace=pace))
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
    marketplace: str = "",
    shop: str = "",
    instance: str = "",
    south: str = "observe",
    production: str = "false",
    mirakl: SandboxConfig | None = None,
    sfcc: SfccConfig | None = None,
) -> AsyncIterator[Ground]:
    """Both sandboxes and an empty, migrated database."""
    mirakl_app = build_mirakl(mirakl or mirakl_config(speed), seed=7)
    sfcc_app = build_sfcc(sfcc or sfcc_config(speed), 7)
    mirakl_bound, sfcc_bound = await start(mirakl_app), await start(sfcc_app)
    tag = f"m{uuid.uuid4().hex[:8]}"
    path = folder / "bridge.toml"
    path.write_text(
        TOML.format(
            kafka=kafka,
            database=database_url,
            mirakl=mirakl_bound.url,
            sfcc=sfcc_bound.url,
            tag=tag,
            marketplace=marketplace,
            shop=shop,
            instance=instance,
            south=south,
            production=production,
        )
    )
    settings = load(INGESTOR, {"BRIDGE_CONFIG": str(path)} | SECRETS)
    await migrate(settings.database_url, "order_ingestor", MIGRATIONS)
    try:
        async with (
            await Database.connect(settings.database_url, "order_ingestor", application="test") as database,
            aiohttp.ClientSession() as web,
        ):
            await set_speed(database, speed)
            yield Ground(
                settings,
                tag,
                mirakl_bound.url,
                sfcc_bound.url,
                mirakl_app[SANDBOX],
                sfcc_app[INSTANCE],
                database,
                web,
                path,
            )
    finally:
        await mirakl_bound.stop()
        await sfcc_bound.stop()


@dataclass
class Hands:
    """The service's own parts without Kafka, moved by hand: read a shop, work off what is owed."""

    ground: Ground
    outbox: Outbox
    clock: BusinessClock
    desk: Desk
    intake: Intake
    following: Following

    def poll(self, shop: str = "2001") -> Poll:
        key = (self.ground.market + ("-net" if shop >= "3000" else ""), shop)
        holder = uuid.uuid4().hex
        database = self.outbox.database
        return Poll(
            self.desk.shops[key],
            self.desk.mirakl[key],
            self.intake,
            self.outbox,
            self.clock,
            Breaker(database, self.clock, holder),
            Leases(database, holder),
        )

    async def know(self, **products: str | tuple[str, int]) -> None:
        """Offers of shop 2001, by SKU with underscores, and what they sell."""
        for sku, product in products.items():
            name, pack = product if isinstance(product, tuple) else (product, 1)
            await self.tell(self.ground.mapped(sku.replace("_", "-"), name, pack))

    async def know_all(self, shop: int = 2001) -> None:
        market = "beta" if shop >= 3000 else "alpha"
        name = self.ground.market + ("-net" if shop >= 3000 else "")
        for n, sku in enumerate(self.ground.mirakl.markets[market].shops[shop].offers):
            await self.outbox.database.execute(
                "INSERT INTO offer_products VALUES ($1, $2, $3, 1, $4, 1) ON CONFLICT DO NOTHING",
                name,
                str(shop),
                sku,
                f"P{n % 12 + 1:06d}",
            )

    async def tell(self, event: Event) -> None:
        """Let the reactors handle an event as their consumer would."""
        self.ground.sequence += 1
        envelope = envelope_of(event, self.ground.sequence)
        received = Received(event, envelope, topic_of(type(event)).name, 0, self.ground.sequence)
        async with self.outbox.transaction() as tx:
            await self.following.handlers().routes[type(event).TYPE].handler.apply([received], tx)

    def worker(self, pace: Pace | None = None) -> Obligations:
        kinds = (self.desk.kinds.create, self.desk.kinds.adopt, self.desk.kinds.update, self.desk.link)
        return Obligations(self.outbox, kinds, uuid.uuid4().hex, pace=pace or BRISK)

    async def link(self) -> None:
        """Owe shop 2001 the numbers that its marketplace does not show, as the service does now and then."""
        market = self.ground.market
        request, about = LinkRequest(market, "2001"), f"shop/{market}/2001"
        async with self.outbox.transaction() as tx:
            account = f"{market}/2001"
            await owe(tx, self.desk.link, key="link", payload=request, due_at=tx.time, account=account, about=about)

    async def compare_again(self) -> None:
        """Look again at what SFCC and we disagree about, as the service does every hour."""
        async with self.outbox.transaction() as tx:
            await self.intake.compare_again(tx)
        await self.work_off()

    async def work_off(self, seconds: float = 30.0) -> None:
        """Do what is owed until nothing is."""
        stop = asyncio.Event()
        running = asyncio.create_task(self.worker().run(stop))
        try:
            await until(self.owes_nothing, seconds)
        finally:
            stop.set()
            await running

    async def owes_nothing(self) -> bool:
        return not await self.outbox.database.fetchval("SELECT EXISTS (SELECT 1 FROM obligations WHERE state = 'open')")

    async def said(self, order_id: str) -> list[Event]:
        """The events of an order that wait for the relay, in their order."""
        rows = await self.outbox.database.fetch(
            "SELECT value, headers FROM outbox WHERE topic = 'orders' AND key LIKE $1 ORDER BY position",
            f"%/{order_id}",
        )
        return [decode(dict(decode_headers(row["headers"]))["ce_type"].decode(), row["value"]) for row in rows]


BRISK = Pace(workers=16, per_account=16, lease_seconds=2.0, idle_seconds=0.02, rescue_seconds=0.2)


@asynccontextmanager
async def hands(here: Ground) -> AsyncIterator[Hands]:
    """One process's parts, without its loops."""
    clock = BusinessClock()
    await clock.synchronize(here.database)
    outbox = Outbox(here.database, INGESTOR, clock)
    async with open_session() as session:
        desk = desk_of(here.database, clock, here.settings, session)
        intake = Intake(desk.shops, SFCC_ACCOUNT, desk.kinds)
        yield Hands(here, outbox, clock, desk, intake, Following(intake, desk))


def envelope_of(event: Event, sequence: int) -> Envelope:
    return Envelope(
        f"test/{event.key}/{sequence}", "/test", event.TYPE, datetime.now(UTC), event.key, sequence,
        schema_uri(type(event)), new_traceparent(),
    )  # fmt: skip
