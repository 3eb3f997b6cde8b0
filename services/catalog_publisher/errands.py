"""The kinds of imports: offers that are missing (OF24), prices (PRI01) and other attributes (OF01)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from services.catalog_publisher.mapped import CatalogueTerms, ShopKey
from services.catalog_publisher.pricing import full_set
from services.catalog_publisher.sending import AGAIN_AFTER, ELIGIBLE, QUIET, Ended, Line, rejected_of
from shared.cases import close_cases, open_case
from shared.clock import BusinessClock
from shared.database import Database, Rows
from shared.events.catalog import Price
from shared.mappings import Mapped, MappingTable
from shared.mirakl.client import MiraklClient
from shared.mirakl.offers import Offer, OfferPrice, OfferUpsert, PriceLine
from shared.money import Money
from shared.outbox import Outbox

ATTRIBUTES: Final = MappingTable("attribute", Mapped)
"""SFCC's attribute to the marketplace's field (PM11), or to a column of its offers: `offer:leadtime-to-ship`."""
OFFER: Final = "offer:"
"""Before a column of offers, where an attribute does not go to a field."""
OFFER_COLUMNS: Final = {
    "leadtime-to-ship": "leadtime_to_ship_days",
    "logistic-class": "logistic_class_code",
    "min-order-quantity": "min_order_quantity",
    "max-order-quantity": "max_order_quantity",
    "package-quantity": "package_quantity",
}
"""Columns of OF01 that we keep, each with its name in what the marketplace shows: we send what can be read back."""
NEW: Final = "11"
"""The condition of a new article (OF61)."""
MOST_CREATED: Final = 500
MOST_PRICED: Final = 10_000
ON_A_PAGE: Final = 100
"""Offers on a page of OF21."""
MOST_CHANGED: Final = 5_000
MOST_TRIED: Final = 20
STOCK_RESET: Final = "offer-change-resets-stock"


@dataclass(slots=True)
class Creating:
    """Products of the site that the shop does not offer, where the marketplace knows the product."""

    shop: ShopKey
    currency: str
    terms: CatalogueTerms
    database: Database
    clock: BusinessClock
    operation: str = "OF24"

    async def pick(self, client: MiraklClient) -> Sequence[Line]:
        """Never one that an offer sells, nor one that an offer may turn out to sell, nor an SKU that is taken."""
        if not self.terms.create_offers:
            return []
        now = self.clock.now()
        rows = await self.database.fetch(
            f"""SELECT p.product_id, p.ean, pr.amount FROM site_products AS s
                JOIN products AS p ON p.product_id = s.product_id
                JOIN listings AS l ON (l.marketplace, l.product_id, l.ean) = ($1, p.product_id, p.ean)
                JOIN prices AS pr ON (pr.site, pr.currency, pr.product_id) = ($3, $4, p.product_id)
                LEFT JOIN sent AS t ON (t.marketplace, t.shop, t.operation, t.sku) = ($1, $2, 'OF24', p.product_id)
                WHERE s.site = $3 AND s.online AND p.sellable AND NOT p.gone AND l.product_sku IS NOT NULL
                  AND NOT EXISTS (SELECT 1 FROM offers AS o WHERE o.there
                                  AND (o.marketplace, o.shop, o.product_id) = ($1, $2, p.product_id))
                  AND NOT EXISTS (SELECT 1 FROM offers AS o WHERE o.there
                                  AND (o.marketplace, o.shop, o.shop_sku) = ($1, $2, p.product_id))
                  AND NOT EXISTS (SELECT 1 FROM offers AS o WHERE o.there AND o.product_id IS NULL AND o.shop = $2
                                  AND (o.marketplace, o.product_sku) = ($1, l.product_sku))
                  AND {ELIGIBLE.format(quiet="$5", digest="p.ean", again="$6")}
                ORDER BY p.product_id LIMIT $7""",  # nothing of it comes from outside
            *self.shop.pair,
            self.shop.site,
            self.currency,
            now - QUIET,
            now - AGAIN_AFTER,
            MOST_CREATED,
        )
        return [
            Line(
                row["product_id"],
                row["product_id"],
                row["ean"],
                OfferUpsert(
                    shop_sku=row["product_id"],
                    product_id=row["ean"],
                    product_id_type="EAN",
                    price=row["amount"],
                    state_code=NEW,
                    update_delete="update",
                    quantity=0,
                ),
                (Price(price=Money(row["amount"], self.currency)),),
            )
            for row in rows
        ]

    async def send(self, client: MiraklClient, lines: Sequence[Line], number: int) -> str:
        """With quantity 0: the stock follows by its own way."""
        return str((await client.upsert_offers([line.payload for line in lines])).import_id)

    async def look(self, client: MiraklClient, import_id: str) -> Ended | None:
        return await look_at_offers(client, import_id)


@dataclass(slots=True)
class Pricing:
    """Offers whose price is not the price book's."""

    shop: ShopKey
    database: Database
    clock: BusinessClock
    operation: str = "PRI01"

    async def pick(self, client: MiraklClient) -> Sequence[Line]:
        """Each with every price it has: what a price file leaves out is removed.

        Packs are left alone, since their price is no price of a piece; so is an offer with prices for quantities or
        for groups of customers, which a price file of ours could not say again.
        """
        now = self.clock.now()
        rows = await self.database.fetch(
            f"""SELECT o.shop_sku, o.product_id, pr.amount, o.currency FROM offers AS o
                JOIN prices AS pr ON (pr.site, pr.currency, pr.product_id) = ($3, o.currency, o.product_id)
                LEFT JOIN sent AS t ON (t.marketplace, t.shop, t.operation, t.sku) = ($1, $2, 'PRI01', o.shop_sku)
                WHERE (o.marketplace, o.shop) = ($1, $2) AND o.there AND o.pack_quantity = 1
                  AND o.price IS DISTINCT FROM pr.amount
                  AND {ELIGIBLE.format(quiet="$4", digest="pr.amount::text", again="$5")}
                ORDER BY o.shop_sku LIMIT $6""",  # nothing of it comes from outside
            *self.shop.pair,
            self.shop.site,
            now - QUIET,
            now - AGAIN_AFTER,
            MOST_PRICED,
        )
        if not rows:
            return []
        due = {row["shop_sku"]: row for row in rows}
        lines: list[Line] = []
        async with aclosing(self._read(client, list(due))) as offers:
            async for offer in offers:
                row = due.pop(offer.shop_sku, None)
                current = [price_of(price, row["currency"]) for price in offer.all_prices] if row else []
                said = [price for price in current if price is not None]
                if row is not None and len(said) == len(current):
                    prices = full_set(said, Money(row["amount"], row["currency"]))
                    payload = [line_of(offer.shop_sku, price) for price in prices]
                    lines.append(Line(offer.shop_sku, row["product_id"], str(row["amount"]), payload, prices))
                if not due:
                    break
        return lines

    async def _read(self, client: MiraklClient, skus: Sequence[str]) -> AsyncGenerator[Offer, None]:
        """These offers, by the fewest calls: each by its SKU, or all of the shop's page by page. One that a shifting
        page hides has its turn in the next round."""
        count: int = await self.database.fetchval(
            "SELECT count(*) FROM offers WHERE (marketplace, shop) = ($1, $2) AND there", *self.shop.pair
        )
        for sku in skus if len(skus) <= -(-count // ON_A_PAGE) else ("",):
            async with aclosing(client.list_offers(sku=sku)) as pages:
                async for page in pages:
                    for offer in page.offers:
                        yield offer

    async def send(self, client: MiraklClient, lines: Sequence[Line], number: int) -> str:
        return (await client.import_prices([price for line in lines for price in line.payload])).import_id

    async def look(self, client: MiraklClient, import_id: str) -> Ended | None:
        async for found in client.list_price_imports(import_ids=[import_id]):
            if found.import_id == import_id and found.status in ("COMPLETE", "FAILED"):
                report = await rejected_of(client.read_price_import_errors(import_id)) if found.has_error_report else {}
                return Ended(found.status == "FAILED", report)
        return None


def price_of(price: OfferPrice, currency: str) -> Price | None:
    """A price as we can say it; None where we cannot."""
    base, context = price.unit_origin_price if price.unit_origin_price is not None else price.price, price.context
    groups = context is not None and (context.customer_group_ids or context.customer_organization_ids)
    volumes = [one for one in price.volume_prices if one.quantity_threshold > 1]
    if base is None or groups or volumes:
        return None
    lower = price.unit_discount_price
    return Price(
        price=Money(base, currency),
        discount_price=Money(lower, currency) if lower is not None else None,
        discount_start=price.discount_start_date if lower is not None else None,
        discount_end=price.discount_end_date if lower is not None else None,
        start=context.start_date if context else None,
        end=context.end_date if context else None,
        channel_codes=context.channel_codes if context else (),
    )


def line_of(sku: str, price: Price) -> PriceLine:
    """A line of a price file."""
    return PriceLine(
        offer_sku=sku,
        price=price.price.amount,
        discount_price=price.discount_price.amount if price.discount_price else None,
        discount_start_date=price.discount_start,
        discount_end_date=price.discount_end,
        channels=price.channel_codes,
        start_date=price.start,
        end_date=price.end,
    )


@dataclass(slots=True)
class Changing:
    """Offers whose attributes are not what SFCC's product says, one column of OF01 at a time.

    That a column which is not in the file stays untouched is what operators say, not what the contract says. So on
    every marketplace one offer with stock goes first, and its stock is read back before any other follows. Only the
    same number as before proves anything: stock has its own ways (STO01, a sale) and may come or go meanwhile.
    """

    shop: ShopKey
    outbox: Outbox
    clock: BusinessClock
    operation: str = "OF01"
    _trial: tuple[str, int] | None = None
    """The offer that goes first, and its quantity."""

    async def pick(self, client: MiraklClient) -> Sequence[Line]:
        """Of the first mapped column that differs somewhere: the value, written as the file is to hold it."""
        lines = await self._differing()
        if not lines:
            return lines
        trial = await self.outbox.database.fetchrow(
            "SELECT left_alone, at FROM trials WHERE marketplace = $1", self.shop.marketplace
        )
        if trial is not None and trial["left_alone"]:
            return lines
        if trial is not None and trial["at"] + AGAIN_AFTER > self.clock.now():
            return []
        return await self._first(client, lines)

    async def _first(self, client: MiraklClient, lines: Sequence[Line]) -> Sequence[Line]:
        """One offer that has stock to lose, and how much."""
        for line in lines[:MOST_TRIED]:
            quantity = await self._quantity(client, line.sku)
            if quantity:
                self._trial = line.sku, quantity
                return [line]
        return []

    async def _quantity(self, client: MiraklClient, sku: str) -> int | None:
        found: int | None = None
        async for page in client.list_offers(sku=sku):
            found = next((offer.quantity for offer in page.offers if offer.shop_sku == sku), found)
        return found

    async def _differing(self) -> Sequence[Line]:
        now, database = self.clock.now(), self.outbox.database
        for attribute, column in await mapped_columns(database, self.shop.marketplace):
            rows = await database.fetch(
                f"""SELECT o.shop_sku, o.product_id, p.content #>> ARRAY['attributes', $3, '0'] AS value
                    FROM offers AS o JOIN products AS p ON p.product_id = o.product_id
                    LEFT JOIN sent AS t ON (t.marketplace, t.shop, t.operation, t.sku) = ($1, $2, 'OF01', o.shop_sku)
                    WHERE (o.marketplace, o.shop) = ($1, $2) AND o.there AND NOT p.gone
                      AND p.content #>> ARRAY['attributes', $3, '0'] <> ''
                      AND p.content #>> ARRAY['attributes', $3, '0'] IS DISTINCT FROM o.shown ->> $4
                      AND {ELIGIBLE.format(quiet="$5", digest=_DIGEST, again="$6")}
                    ORDER BY o.shop_sku LIMIT $8""",  # nothing of it comes from outside
                *self.shop.pair,
                attribute,
                OFFER_COLUMNS[column],
                now - QUIET,
                now - AGAIN_AFTER,
                column,
                MOST_CHANGED,
            )
            if rows:
                return [
                    Line(
                        row["shop_sku"],
                        row["product_id"],
                        f"{column}={row['value']}",
                        {"sku": row["shop_sku"], column: row["value"]},
                    )
                    for row in rows
                ]
        return []

    async def send(self, client: MiraklClient, lines: Sequence[Line], number: int) -> str:
        """NORMAL, with the SKU and the one column. A file that equals an earlier one may be taken for that one, so
        every other file says `update` where saying nothing means the same."""
        if self._trial is not None:
            await self.outbox.database.execute(
                """INSERT INTO trials (marketplace, shop, shop_sku, quantity, at) VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (marketplace) DO UPDATE SET shop = excluded.shop, shop_sku = excluded.shop_sku,
                       quantity = excluded.quantity, at = excluded.at, left_alone = NULL""",
                *self.shop.pair,
                *self._trial,
                self.clock.now(),
            )
        columns = list(lines[0].payload)
        again: dict[str, str] = {"update-delete": "update"} if number % 2 else {}
        rows: list[dict[str, Any]] = [line.payload | again for line in lines]
        return str((await client.import_offers([*columns, *again], rows, mode="NORMAL")).import_id)

    async def look(self, client: MiraklClient, import_id: str) -> Ended | None:
        ended = await look_at_offers(client, import_id)
        if ended is not None:
            await self._conclude(client, ended)
        return ended

    async def _conclude(self, client: MiraklClient, ended: Ended) -> None:
        """Read the first offer's stock back: whether others may follow."""
        trial = await self.outbox.database.fetchrow(
            "SELECT shop_sku, quantity FROM trials WHERE (marketplace, shop) = ($1, $2) AND left_alone IS NULL",
            *self.shop.pair,
        )
        if trial is None:
            return
        sku, before = trial["shop_sku"], trial["quantity"]
        proven = not ended.failed and sku not in ended.rejected
        after = await self._quantity(client, sku) if proven else None
        about = f"marketplace/{self.shop.marketplace}"
        async with self.outbox.transaction() as tx:
            if after not in (before, 0):
                # Refused, gone, sold or stocked up meanwhile: another offer goes first.
                await tx.execute("DELETE FROM trials WHERE marketplace = $1", self.shop.marketplace)
                return
            kept = after == before
            await tx.execute("UPDATE trials SET left_alone = $2 WHERE marketplace = $1", self.shop.marketplace, kept)
            if kept:
                await close_cases(tx, about=about, code=STOCK_RESET, explanation="An offer kept its stock.")
            else:
                facts = {"shop SKU": sku, "quantity before": str(before), "quantity after": "0"}
                await open_case(tx, STOCK_RESET, about=about, marketplace=self.shop.marketplace, facts=facts)


async def mapped_columns(rows: Rows | Database, marketplace: str) -> list[tuple[str, str]]:
    """SFCC attributes that go to a column of offers which we keep, each with that column."""
    lines = await ATTRIBUTES.all(rows, marketplace)
    columns = [
        (attribute, to.right.removeprefix(OFFER)) for attribute, to in lines.items() if to.right.startswith(OFFER)
    ]
    return sorted((attribute, column) for attribute, column in columns if column in OFFER_COLUMNS)


_DIGEST: Final = "$7 || '=' || (p.content #>> ARRAY['attributes', $3, '0'])"


async def look_at_offers(client: MiraklClient, import_id: str) -> Ended | None:
    """How an import of offers stands (OF02), with the lines that it refused (OF03)."""
    found = await client.read_offer_import(int(import_id))
    if found.status not in ("COMPLETE", "FAILED"):
        return None
    report = await rejected_of(client.read_offer_import_errors(int(import_id))) if found.has_error_report else {}
    return Ended(found.status == "FAILED" and not report, report)
