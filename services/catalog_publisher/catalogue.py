"""SFCC's products are read: all of them now and then, what changed in between, and what they cost.

A page of products reaches the topic with the transaction that keeps it, so a page is never lost and a repeat says
nothing new. A product that no complete reading of any site shows any more is gone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from services.catalog_publisher.pricing import BookEntry, price_now
from services.catalog_publisher.waiting import pause, until_stopped
from shared.breaker import Breaker
from shared.cases import close_cases, open_case
from shared.clients import SFCC_ACCOUNT
from shared.clock import BusinessClock
from shared.configuration import Site
from shared.cursors import Cursor, move_cursor, read_cursor
from shared.database import patiently
from shared.errors import Refused, Transient, UnknownOutcome
from shared.events.catalog import ProductChanged, ProductRemoved
from shared.leases import Lease, Leases
from shared.outbox import Outbox, Transaction
from shared.sfcc.client import SfccClient
from shared.sfcc.client import as_sent as as_sfcc_writes
from shared.sfcc.files import BookPrice
from shared.sfcc.jobs import JobExecution
from shared.sfcc.products import Product, Query, modified_between, of_catalog

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=2)
ALL_EVERY: Final = timedelta(hours=1)
"""How often everything is read: only that shows what was deleted, and what a product costs on the site."""
OVERLAP: Final = timedelta(minutes=10)
"""The search index may show a change late."""
PRICE_JOB: Final = "ExportPriceBook"
"""The job in Business Manager: a step ExportPriceBook that takes `PriceBookIDs` and `ExportFile`."""
PRICES_UNREAD: Final = "prices-not-read"
JOB_LOOKS: Final = timedelta(seconds=5)
JOB_PATIENCE: Final = timedelta(minutes=30)
AT_ONCE: Final = 1_000
_LONGEST_LINE: Final = 500
_LONGEST_TEXT: Final = 4_000
_EXPAND: Final = ("prices", "availability", "images")


class JobFailed(Transient):
    """SFCC ran the export of prices to no good end."""


class Shown(NamedTuple):
    """A product as a site shows it."""

    event: ProductChanged
    sellable: bool
    online: bool
    price: Decimal | None
    currency: str | None


def shown_of(product: Product, site: str, read_at: datetime) -> Shown:
    """What marketplaces are told of a product, within what an event can carry."""
    kinds = product.type
    master = kinds is not None and (kinds.master or kinds.variation_group or kinds.set or kinds.retail_set)
    kind = next((name for name, holds in msgspec.to_builtins(kinds).items() if holds is True), "item") if kinds else ""
    online = product.online_flag.get(site, product.online_flag.get("default", True))
    codes = dict.fromkeys(code.strip() for code in (product.ean, product.upc) if code and code.strip())
    event = ProductChanged(
        product_id=product.id,
        kind=kind or "item",
        online=any(product.online_flag.values()) if product.online_flag else bool(product.online),
        last_modified=product.last_modified or product.creation_date or read_at,
        master_id=product.master.master_id if product.master else None,
        eans=tuple(code[:64] for code in codes),
        brand=(product.brand or "")[:_LONGEST_LINE] or None,
        primary_category=product.primary_category_id or None,
        names={locale: name[:_LONGEST_LINE] for locale, name in product.name.items() if name},
        descriptions={
            locale: text[:_LONGEST_TEXT]
            for locale, markup in product.short_description.items()
            if (text := _plain(markup))
        },
        attributes={name: values for name, value in _attributes(product) if (values := _texts(value))},
        images=_images(product),
    )
    price = product.price if product.price is not None and product.price > 0 else None
    return Shown(event, not master, product.online if product.online is not None else online, price,
                 product.price_currency)  # fmt: skip


def _plain(markup: Any) -> str:
    if isinstance(markup, dict):
        markup = markup.get("source") or markup.get("markup") or ""
    return str(markup)


def _attributes(product: Product) -> list[tuple[str, Any]]:
    own = {
        "manufacturerName": product.manufacturer_name,
        "manufacturerSku": product.manufacturer_sku,
        "unit": product.unit,
        "taxClassId": product.tax_class_id,
    }
    return sorted([*own.items(), *product.variation_values.items(), *product.custom.items()])


def _texts(value: Any) -> tuple[str, ...]:
    """A value as texts; what differs by locale is told as its default."""
    if isinstance(value, dict):
        value = value.get("default", next(iter(value.values()), None))
    values = value if isinstance(value, list) else [value]
    texts = (str(one).lower() if isinstance(one, bool) else str(one) for one in values if one not in (None, ""))
    return tuple(text[:_LONGEST_TEXT] for text in texts)


def _images(product: Product) -> tuple[str, ...]:
    groups = [group.get("images", ()) for group in product.image_groups if isinstance(group, dict)]
    found = [product.image, *(one for images in groups for one in images)]
    urls = (one.get("absUrl") or one.get("absURL") for one in found if isinstance(one, dict))
    return tuple(dict.fromkeys(url[:2000] for url in urls if url))[:100]


@dataclass(slots=True)
class Catalogue:
    """The reading of one site's products and prices."""

    site: str
    settings: Site
    client: SfccClient
    outbox: Outbox
    clock: BusinessClock
    breaker: Breaker
    leases: Leases
    files: bool
    """Whether the instance's own host is known, so that exports can be fetched."""
    beat: Callable[[], None]
    every: timedelta = EVERY

    @property
    def query(self) -> Query:
        return of_catalog(self.settings.catalog) if self.settings.catalog else {"matchAllQuery": {}}

    @property
    def covers(self) -> str:
        """The question, as the cursors keep it."""
        return f"searchProducts catalog={self.settings.catalog or '*'}"

    async def run(self, stop: asyncio.Event) -> None:
        """Read while the site's lease is ours, until `stop`."""

        async def work(lease: Lease) -> None:
            while not stop.is_set():
                started = self.clock.now()
                await until_stopped(self.read_patiently(), stop, self.beat)
                await pause(self.clock, started + self.every, stop, self.beat)

        await self.leases.run(f"catalog-publisher/site/{self.site}", work, stop)

    async def read_patiently(self) -> None:
        """One round; what fails is tried again in the next one."""
        try:
            async with self.breaker.guard(SFCC_ACCOUNT, self.outbox):
                await self.read()
        except (Refused, Transient, UnknownOutcome) as error:
            log.warning("catalogue_not_read", source=self.site, error=type(error).__name__, reason=str(error))

    async def read(self) -> None:
        """Everything where it is due, else what changed since the last reading."""
        started, database = self.clock.now(), self.outbox.database
        whole = await read_cursor(database, f"products/{self.site}/all", self.covers)
        last = await read_cursor(database, f"products/{self.site}/changes", self.covers)
        if whole is None or last is None or whole.until + ALL_EVERY <= started:
            reading = await database.fetchval("SELECT nextval('readings')")
            await self._read_pages(self.query, reading)
            while await patiently(partial(self._forget_some, reading)):
                pass
            await self._read_prices_patiently(reading)
            await self._note("all", started, started)
        else:
            await self._read_pages(modified_between(self.query, as_sfcc_writes(last.until - OVERLAP)), None)
        await self._note("changes", last.since if last else started, started)

    async def _note(self, what: str, since: datetime, until: datetime) -> None:
        async with self.outbox.database.transaction() as rows:
            name = f"products/{self.site}/{what}"
            await move_cursor(rows, name, Cursor(self.covers, since, until), self.clock.now())

    async def _read_pages(self, query: Query, reading: int | None) -> None:
        async with aclosing(self.client.search_products(query, expand=_EXPAND)) as pages:
            async for page in pages:
                read_at = self.clock.now()
                shown = {hit.id: shown_of(hit, self.site, read_at) for hit in page.hits}
                if shown:
                    await patiently(partial(self._keep, shown, reading))

    async def _keep(self, shown: dict[str, Shown], reading: int | None, end_blockers: bool) -> None:
        """Note a page, and publish what is new in it."""
        ids = sorted(shown)
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            if reading is None:
                # Seen between two complete readings: it counts as seen by the last one.
                reading = await tx.fetchval(
                    "SELECT coalesce(max(reading), 0) FROM site_products WHERE site = $1", self.site
                )
            await tx.execute("INSERT INTO products (product_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", ids)
            rows = await tx.fetch(
                """SELECT product_id, version, digest, gone FROM products WHERE product_id = ANY($1)
                   ORDER BY product_id FOR UPDATE""",
                ids,
            )
            news: list[tuple[object, ...]] = []
            for row in rows:
                one = shown[row["product_id"]]
                content = msgspec.json.encode(one.event)
                digest = hashlib.sha256(content).hexdigest()[:32]
                if row["digest"] != digest or row["gone"]:
                    news.append(
                        (
                            row["product_id"],
                            row["version"] + 1,
                            digest,
                            one.event.eans[0] if one.event.eans else None,
                            one.sellable,
                            content.decode().replace("\\u0000", ""),
                        )
                    )
                    tx.publish(one.event, sequence=row["version"] + 1)
            if news:
                await tx.execute(
                    """UPDATE products AS p SET version = n.version, digest = n.digest, ean = n.ean,
                              sellable = n.sellable, content = n.content, gone = false
                       FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::boolean[], $6::jsonb[])
                            AS n(product_id, version, digest, ean, sellable, content)
                       WHERE p.product_id = n.product_id""",
                    *zip(*news, strict=True),
                )
            await tx.execute(
                """INSERT INTO site_products AS s (site, product_id, online, reading)
                   SELECT $1, n.product_id, n.online, $4 FROM unnest($2::text[], $3::boolean[]) AS n(product_id, online)
                   ON CONFLICT (site, product_id) DO UPDATE SET online = excluded.online, reading = excluded.reading
                   WHERE (s.online, s.reading) IS DISTINCT FROM (excluded.online, excluded.reading)""",
                self.site,
                ids,
                [shown[one].online for one in ids],
                reading,
            )
            priced = [
                (one, shown[one].currency, shown[one].price)
                for one in ids
                if shown[one].price is not None and not self._from_book(shown[one].currency)
            ]
            await keep_prices(tx, self.site, priced, reading)

    def _from_book(self, currency: str | None) -> bool:
        return self.files and currency in self.settings.price_books

    async def _forget_some(self, reading: int, end_blockers: bool) -> bool:
        """Products that the complete reading did not show leave the site; who is on no site is gone."""
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            left = await tx.fetch(
                """DELETE FROM site_products WHERE site = $1 AND product_id IN (
                       SELECT product_id FROM site_products WHERE site = $1 AND reading < $2
                       ORDER BY product_id LIMIT $3) RETURNING product_id""",
                self.site,
                reading,
                AT_ONCE,
            )
            gone = await tx.fetch(
                """UPDATE products AS p SET gone = true, version = p.version + 1 FROM (
                       SELECT product_id FROM products AS q WHERE product_id = ANY($1) AND NOT gone AND NOT EXISTS (
                           SELECT 1 FROM site_products AS s WHERE s.product_id = q.product_id)
                       ORDER BY product_id FOR UPDATE) AS n
                   WHERE p.product_id = n.product_id RETURNING p.product_id, p.version""",
                [row["product_id"] for row in left],
            )
            for row in gone:
                tx.publish(ProductRemoved(product_id=row["product_id"], noticed_at=tx.time), sequence=row["version"])
            return len(left) == AT_ONCE

    # Prices -----------------------------------------------------------------------------------------

    async def _read_prices_patiently(self, reading: int) -> None:
        """Products go on without their prices: a job that is missing or fails is a question for a person."""
        about = f"site/{self.site}"
        try:
            await self._read_prices(reading)
        except (Refused, UnknownOutcome, JobFailed, ValueError) as error:
            log.warning("prices_not_read", source=self.site, reason=str(error))
            async with self.outbox.transaction() as tx:
                await open_case(tx, PRICES_UNREAD, about=about, facts={"reason": str(error)[:500]})
        else:
            async with self.outbox.transaction() as tx:
                await close_cases(tx, about=about, code=PRICES_UNREAD, explanation="The prices were read.")

    async def _read_prices(self, reading: int) -> None:
        """The price books of the site, exported by SFCC and fetched; then prices that are no more are dropped."""
        if self.files:
            for currency, book in self.settings.price_books.items():
                await self._read_book(currency, book, reading)
        async with self.outbox.database.transaction() as rows:
            await rows.execute("DELETE FROM prices WHERE site = $1 AND reading < $2", self.site, reading)

    async def _read_book(self, currency: str, book: str, reading: int) -> None:
        path = f"bridge/prices-{self.site}-{currency}.xml"
        give_up_at = self.clock.now() + JOB_PATIENCE
        run = await self._start_job({"PriceBookIDs": book, "ExportFile": path}, give_up_at)
        while run.execution_status not in ("finished", "aborted"):
            if self.clock.now() > give_up_at:
                raise JobFailed(f"job {PRICE_JOB} has not ended within {JOB_PATIENCE}: look at it in Business Manager")
            await self.clock.sleep_until(self.clock.now() + JOB_LOOKS)
            run = await self.client.read_job_execution(PRICE_JOB, run.id)
        if run.execution_status == "aborted" or run.status not in (None, "OK"):
            raise JobFailed(f"job {PRICE_JOB} ended {run.status}: look at its log in Business Manager")
        now = self.clock.now()
        batch: list[tuple[str, str | None, Decimal | None]] = []
        async with aclosing(_by_product(self.client.read_price_file(f"src/{path}"))) as products:
            async for product_id, entries in products:
                price = price_now([one for one in entries if one.price_book_id == book], now)
                if price is not None and price > 0:
                    batch.append((product_id, currency, price))
                if len(batch) >= AT_ONCE:
                    await self._keep_prices(batch, reading)
                    batch = []
        await self._keep_prices(batch, reading)

    async def _start_job(self, parameters: Mapping[str, str], give_up_at: datetime) -> JobExecution:
        """SFCC runs a job once at a time: what was started for another site, or by somebody else, is waited for."""
        while True:
            try:
                return await self.client.run_job(PRICE_JOB, parameters)
            except Refused as error:
                if error.code != "job-already-running" or self.clock.now() > give_up_at:
                    raise
            await self.clock.sleep_until(self.clock.now() + JOB_LOOKS)
            self.beat()

    async def _keep_prices(self, batch: Sequence[tuple[str, str | None, Decimal | None]], reading: int) -> None:
        async with self.outbox.transaction() as tx:
            await keep_prices(tx, self.site, batch, reading)


async def _by_product(prices: AsyncGenerator[BookPrice, None]) -> AsyncGenerator[tuple[str, list[BookEntry]], None]:
    """What stands together in a price book: one product's prices."""
    product_id, entries = "", list[BookEntry]()
    async with aclosing(prices) as lines:
        async for line in lines:
            if line.product_id != product_id and entries:
                yield product_id, entries
                entries = []
            product_id = line.product_id
            entries.append(BookEntry(line.price_book_id, line.quantity, line.amount, line.online_from, line.online_to))
    if entries:
        yield product_id, entries


async def keep_prices(
    tx: Transaction, site: str, prices: Sequence[tuple[str, str | None, Decimal | None]], reading: int
) -> None:
    """Note product, currency and price of one piece."""
    distinct = {(product_id, currency): price for product_id, currency, price in prices}
    if distinct:
        await tx.execute(
            """INSERT INTO prices AS p (site, product_id, currency, amount, reading)
               SELECT $1, n.*, $5 FROM unnest($2::text[], $3::text[], $4::numeric[]) AS n(product_id, currency, amount)
               ON CONFLICT (site, currency, product_id) DO UPDATE SET amount = excluded.amount,
                   reading = excluded.reading
               WHERE (p.amount, p.reading) IS DISTINCT FROM (excluded.amount, excluded.reading)""",
            site,
            *zip(*((*key, price) for key, price in sorted(distinct.items())), strict=True),
            reading,
        )
