"""The service's tables without Kafka, filled by hand, and a shop that answers from a dictionary."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from services.catalog_publisher.__main__ import MIGRATIONS
from services.catalog_publisher.errands import ON_A_PAGE
from services.catalog_publisher.mapped import ShopKey
from shared.clock import BusinessClock, ManualClock
from shared.database import Database, migrate
from shared.mappings import Mapped, MappingTable
from shared.mirakl.client import MiraklClient
from shared.mirakl.offers import Offer, OfferPrice, OffersPage
from shared.outbox import Outbox
from shared.topics import CATALOG
from tests.kit.flow import NOW

SHOP = ShopKey("m", "2001", "MainSite")


@dataclass
class Shelf:
    """The tables."""

    outbox: Outbox
    clock: ManualClock

    @property
    def database(self) -> Database:
        return self.outbox.database

    @property
    def business(self) -> BusinessClock:
        """The clock as the service's parts want it."""
        return cast(BusinessClock, self.clock)

    async def product(self, product_id: str, *, sold: bool = True, known: bool = False, **attributes: str) -> None:
        """SFCC has it, and the site sells it or not; the marketplace knows it or not."""
        content = {"attributes": {name: [value] for name, value in attributes.items()}}
        await self.database.execute(
            """INSERT INTO products (product_id, ean, sellable, content) VALUES ($1, $1, true, $2::jsonb)
               ON CONFLICT (product_id) DO UPDATE SET content = excluded.content""",
            product_id,
            msgspec.json.encode(content).decode(),
        )
        await self.database.execute(
            """INSERT INTO site_products VALUES ($1, $2, $3, 1)
               ON CONFLICT (site, product_id) DO UPDATE SET online = excluded.online""",
            SHOP.site,
            product_id,
            sold,
        )
        await self.database.execute(
            """INSERT INTO listings VALUES ($1, $2, $2, $3, $4)
               ON CONFLICT (marketplace, product_id) DO UPDATE SET product_sku = excluded.product_sku""",
            SHOP.marketplace,
            product_id,
            f"M-{product_id}" if known else None,
            NOW,
        )

    async def offer(
        self, sku: str, product_id: str, *, there: bool = True, price: str = "10.00", pack: int = 1, **shown: str
    ) -> None:
        """The marketplace shows it so."""
        await self.database.execute(
            """INSERT INTO offers (marketplace, shop, shop_sku, there, price, currency, shown, product_id, mapped_by,
                                   pack_quantity)
               VALUES ($1, $2, $3, $4, $5, 'EUR', $6::jsonb, $7, 'mapping', $8)
               ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET there = excluded.there, price = excluded.price,
                   shown = excluded.shown, pack_quantity = excluded.pack_quantity""",
            *SHOP.pair,
            sku,
            there,
            Decimal(price),
            msgspec.json.encode(shown).decode(),
            product_id,
            pack,
        )

    async def price(self, product_id: str, amount: str) -> None:
        """The price book says so."""
        await self.database.execute(
            """INSERT INTO prices VALUES ($1, 'EUR', $2, $3, 1)
               ON CONFLICT (site, currency, product_id) DO UPDATE SET amount = excluded.amount""",
            SHOP.site,
            product_id,
            Decimal(amount),
        )

    async def map_line(self, kind: str, left: str, right: str) -> None:
        """A person maps it."""
        async with self.outbox.transaction() as tx:
            await MappingTable(kind, Mapped).set(tx, SHOP.marketplace, left, Mapped(right=right), by="u-1")

    async def open_cases(self) -> list[str]:
        """What about, and by which operation."""
        rows = await self.database.fetch("SELECT about, cause FROM cases WHERE closed_at IS NULL ORDER BY about, cause")
        return [f"{row['about'].rpartition('/')[2]} {row['cause'] or ''}".strip() for row in rows]


@asynccontextmanager
async def shelf(database_url: str) -> AsyncIterator[Shelf]:
    """Empty tables."""
    await migrate(database_url, "catalog_publisher", MIGRATIONS)
    async with await Database.connect(database_url, "catalog_publisher", application="test") as database:
        clock = ManualClock(NOW)
        yield Shelf(Outbox(database, CATALOG, clock), clock)


@dataclass
class Shop:
    """A shop at a marketplace: its offers' quantities, and what an OF01 file does to them."""

    quantities: dict[str, int]
    does: Callable[[dict[str, int], str], None] = lambda quantities, sku: None
    price: Decimal = Decimal("10.00")
    lists: list[str] = field(default_factory=list)
    """Every page of OF21 that was asked for, by the SKU it was asked by."""
    files: list[list[str]] = field(default_factory=list)
    """The SKUs of every OF01 file."""

    @property
    def client(self) -> MiraklClient:
        return cast(MiraklClient, self)

    async def list_offers(self, *, sku: str = "") -> AsyncGenerator[OffersPage, None]:
        found = sorted(name for name in self.quantities if sku in ("", name))
        for start in range(0, max(1, len(found)), ON_A_PAGE):
            self.lists.append(sku)
            price = OfferPrice(price=self.price)
            offers = tuple(
                Offer(shop_sku=name, offer_id=1, active=True, quantity=self.quantities[name], all_prices=(price,))
                for name in found[start : start + ON_A_PAGE]
            )
            yield OffersPage(offers=offers)

    async def import_offers(self, columns: Sequence[str], rows: Sequence[dict[str, Any]], *, mode: str) -> Any:
        self.files.append([row["sku"] for row in rows])
        for row in rows:
            self.does(self.quantities, row["sku"])
        return SimpleNamespace(import_id=len(self.files))

    async def read_offer_import(self, import_id: int) -> Any:
        return SimpleNamespace(status="COMPLETE", has_error_report=False)


A_MOMENT = timedelta(minutes=2)
