"""Products that a marketplace does not know yet: sent by P41 as a plain table, followed by P42, proven by P31."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import msgspec

from services.catalog_publisher.content import Missing, row_of
from services.catalog_publisher.errands import ATTRIBUTES, OFFER
from services.catalog_publisher.mapped import ShopKey
from services.catalog_publisher.sending import AGAIN_AFTER, ELIGIBLE, QUIET, Ended, Line
from shared.cases import close_cases, open_case
from shared.clock import BusinessClock
from shared.events.catalog import ProductChanged
from shared.mappings import Mapped, MappingTable
from shared.mirakl.client import MiraklClient
from shared.outbox import Outbox

CATEGORIES: Final = MappingTable("category", Mapped)
"""SFCC's primary category to the operator's (H11)."""
INCOMPLETE: Final = "product-incomplete"
GAP: Final = timedelta(minutes=16)
"""Between two product imports of a shop: Mirakl takes one in a quarter of an hour."""
FIELDS_LIVE: Final = timedelta(hours=6)
MOST: Final = 1_000
_AT_ONCE: Final = 1_000
_EANS_AT_ONCE: Final = 100
_NOT_TAKEN: Final = (
    "The import has ended and the marketplace does not know the product: see its report in the back office"
)


@dataclass(slots=True)
class RequiredFields:
    """Which fields every product of an operator needs (PM11), asked for now and then."""

    clock: BusinessClock
    _held: tuple[Any, frozenset[str]] | None = field(default=None)

    async def read(self, client: MiraklClient) -> frozenset[str]:
        now = self.clock.now()
        if self._held is None or self._held[0] + FIELDS_LIVE < now:
            attributes = await client.list_attributes()
            names = {one.code for one in attributes if one.requirement_level == "REQUIRED" and not one.hierarchy_code}
            self._held = (now, frozenset(names))
        return self._held[1]


@dataclass(slots=True)
class Introducing:
    """Products of the site that the operator was asked for by EAN and does not have."""

    shop: ShopKey
    locale: str
    outbox: Outbox
    clock: BusinessClock
    required: RequiredFields
    operation: str = "P41"

    async def pick(self, client: MiraklClient) -> Sequence[Line]:
        """Nothing before people have said where SFCC's attributes go; what cannot be sent is asked about by cause."""
        database = self.outbox.database
        lines = await ATTRIBUTES.all(database, self.shop.marketplace)
        fields = {name: to.right for name, to in lines.items() if not to.right.startswith(OFFER)}
        last = await database.fetchval(
            "SELECT max(started_at) FROM imports WHERE (marketplace, shop, operation) = ($1, $2, 'P41')",
            *self.shop.pair,
        )
        if not fields:
            await self._ask({}, everything=True)
            return []
        if last is not None and last + GAP > self.clock.now():
            return []
        found: list[Line] = []
        missing: dict[Missing, str] = {}
        after: str | None = ""
        required: frozenset[str] | None = None
        categories = {name: to.right for name, to in (await CATEGORIES.all(database, self.shop.marketplace)).items()}
        while after is not None and len(found) < MOST:
            rows = await self._unknown(after)
            if rows and required is None:
                required = await self.required.read(client)
            after = rows[-1]["product_id"] if len(rows) == _AT_ONCE else None
            for row in rows[: MOST - len(found)]:
                product = msgspec.json.decode(row["content"], type=ProductChanged)
                content = row_of(
                    product,
                    locale=self.locale,
                    fields=fields,
                    categories=categories,
                    required=required or frozenset(),
                )
                if isinstance(content, Missing):
                    missing.setdefault(content, product.product_id)
                else:
                    found.append(Line(product.product_id, product.product_id, row["digest"], content))
        await self._ask(missing, everything=after is None)
        return found

    async def _unknown(self, after: str) -> Sequence[Any]:
        now = self.clock.now()
        return await self.outbox.database.fetch(
            f"""SELECT p.product_id, p.content, p.digest FROM site_products AS s
                JOIN products AS p ON p.product_id = s.product_id
                JOIN listings AS l ON (l.marketplace, l.product_id, l.ean) = ($1, p.product_id, p.ean)
                LEFT JOIN sent AS t ON (t.marketplace, t.shop, t.operation, t.sku) = ($1, $2, 'P41', p.product_id)
                WHERE s.site = $3 AND s.online AND p.sellable AND NOT p.gone AND l.product_sku IS NULL
                  AND p.product_id > $4 AND {ELIGIBLE.format(quiet="$5", digest="p.digest", again="$6")}
                ORDER BY p.product_id LIMIT $7""",  # nothing of it comes from outside
            *self.shop.pair,
            self.shop.site,
            after,
            now - QUIET,
            now - AGAIN_AFTER,
            _AT_ONCE,
        )

    async def _ask(self, missing: dict[Missing, str], *, everything: bool) -> None:
        """One question per category or field; those that no product needs answered any more are closed."""
        shop = "/".join(self.shop.pair)
        async with self.outbox.transaction() as tx:
            asked = [
                await open_case(
                    tx,
                    INCOMPLETE,
                    about=f"{one.kind}/{shop}/{one.name}"[:400],
                    marketplace=self.shop.marketplace,
                    shop=self.shop.shop,
                    facts={"missing": f"{one.kind} {one.name or 'in SFCC'}"[:400], "for example": example},
                )
                for one, example in sorted(missing.items(), key=lambda pair: (pair[0].kind, pair[0].name))
            ]
            if everything:
                rows = await tx.fetch(
                    """SELECT case_id FROM cases WHERE code = $1 AND closed_at IS NULL AND NOT case_id = ANY($2)
                       AND (starts_with(about, $3) OR starts_with(about, $4))""",
                    INCOMPLETE,
                    asked,
                    f"category/{shop}/",
                    f"attribute/{shop}/",
                )
                await close_cases(tx, case_ids=[row["case_id"] for row in rows], explanation="No product lacks it.")

    async def send(self, client: MiraklClient, lines: Sequence[Line], number: int) -> str:
        """In the operator's format: its fields are the columns."""
        columns = sorted({name for line in lines for name in line.payload})
        rows = [line.payload for line in lines]
        return str((await client.import_products(columns, rows, operator_format=True)).import_id)

    async def look(self, client: MiraklClient, import_id: str) -> Ended | None:
        """SENT is as far as Mirakl gets by itself: the operator's answer shows in P31 some day."""
        found = await client.read_product_import(int(import_id))
        match found.import_status:
            case "SENT" | "COMPLETE":
                waits = found.import_status == "SENT" and not found.transform_lines_in_error
                return Ended(False, {} if waits else await self._not_taken(client, import_id))
            case "FAILED" | "TRANSFORMATION_FAILED" | "CANCELLED":
                reason = found.reason_status or f"The import ended {found.import_status}"
                return Ended(False, {sku: reason for sku, _ in await self._lines(import_id)})
            case _:
                return None

    async def _not_taken(self, client: MiraklClient, import_id: str) -> dict[str, str]:
        """Which products of the import the marketplace does not have: no report of it names them by our ids."""
        lines = await self._lines(import_id)
        left: dict[str, str] = {}
        for start in range(0, len(lines), _EANS_AT_ONCE):
            some = lines[start : start + _EANS_AT_ONCE]
            found = await client.find_products([("EAN", ean) for _, ean in some])
            known = {one.product_id for one in found}
            left |= {sku: _NOT_TAKEN for sku, ean in some if ean not in known}
        return left

    async def _lines(self, import_id: str) -> list[tuple[str, str]]:
        rows = await self.outbox.database.fetch(
            """SELECT t.sku, p.ean FROM imports AS i JOIN sent AS t ON t.import = i.id
               JOIN products AS p ON p.product_id = t.product_id
               WHERE (i.marketplace, i.shop, i.operation, i.import_id) = ($1, $2, 'P41', $3) AND p.ean IS NOT NULL
               ORDER BY t.sku""",
            *self.shop.pair,
            import_id,
        )
        return [(row["sku"], row["ean"]) for row in rows]
