"""Offers and what they sell, as they stand in the tables: every change leaves as an event of the offer's own row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from services.catalog_publisher.matching import Sells, Unknown, match
from services.catalog_publisher.showing import said_of
from shared.cases import case_id_of, close_cases, open_case
from shared.events.catalog import OfferMapped, OfferPublished, OfferRemoved, OfferUnmapped
from shared.events.keys import offer_key
from shared.mappings import SKUS
from shared.outbox import Transaction
from shared.rules import Rule
from shared.settings import ShopSettings

UNMAPPED: Final = "offer-sku-unmapped"
_LONGEST_FACT: Final = 400
MOST_ASKED: Final = 200
"""Open questions per shop: whoever has mapped these is asked for the next ones."""


class CatalogueTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people decided for a shop's catalogue."""

    confirm_ean: bool = False
    """An equal EAN is taken for the product without asking, where one product alone has it."""
    create_offers: bool = True
    """Products that the shop does not offer yet get an offer."""


CATALOGUE_RULE: Final = Rule("catalogue", CatalogueTerms)


@dataclass(frozen=True, slots=True)
class ShopKey:
    """Whose offers."""

    marketplace: str
    shop: str
    site: str

    @classmethod
    def of(cls, shop: ShopSettings) -> Self:
        return cls(shop.marketplace_name, shop.shop_id, shop.shop.site)

    @property
    def pair(self) -> tuple[str, str]:
        return self.marketplace, self.shop

    def about(self, shop_sku: str) -> str:
        """As cases name an offer."""
        return f"offer/{offer_key(self.marketplace, self.shop, shop_sku)}"[:400]

    def cause(self, shop_sku: str) -> str:
        """As cases name the missing mapping."""
        return f"mapping/{self.marketplace}/sku/{shop_sku}"[:400]

    def case_id(self, shop_sku: str) -> str:
        """Of the question what the offer sells."""
        return case_id_of(UNMAPPED, self.about(shop_sku), self.cause(shop_sku))


async def keep_shown(tx: Transaction, shop: ShopKey, events: Sequence[OfferPublished], reading: int) -> list[str]:
    """Note what a marketplace shows, and publish what is news; the offers exist there from now on.

    Returns those that are to be matched: the new and changed ones, and those that nobody knows.
    """
    newest = {event.shop_sku: event for event in events}
    rows = await _lock(tx, shop, list(newest), create=True)
    changes: list[tuple[object, ...]] = []
    unchanged: list[str] = []
    for row in rows:
        event = newest[row["shop_sku"]]
        said = msgspec.json.encode(said_of(event))
        digest = hashlib.sha256(said).hexdigest()[:32]
        if row["digest"] == digest and row["there"]:
            unchanged.append(event.shop_sku)
            continue
        version = row["version"] + 1
        tx.publish(event, sequence=version)
        base = event.prices[0].price if event.prices else None
        changes.append(
            (
                event.shop_sku,
                version,
                event.offer_id,
                event.product_sku,
                base.amount if base else None,
                base.currency if base else None,
                said.decode(),
                digest,
            )
        )
    if changes:
        await tx.execute(
            """UPDATE offers AS o SET version = n.version, there = true, offer_id = n.offer_id, reading = $3,
                      product_sku = n.product_sku, price = n.price, currency = n.currency, shown = n.shown,
                      digest = n.digest
               FROM unnest($4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::numeric[], $9::text[], $10::jsonb[],
                           $11::text[])
                    AS n(shop_sku, version, offer_id, product_sku, price, currency, shown, digest)
               WHERE (o.marketplace, o.shop, o.shop_sku) = ($1, $2, n.shop_sku)""",
            *shop.pair,
            reading,
            *zip(*changes, strict=True),
        )
    await tx.execute(
        """UPDATE offers SET reading = $3 WHERE (marketplace, shop) = ($1, $2) AND shop_sku = ANY($4)""",
        *shop.pair,
        reading,
        unchanged,
    )
    known = {row["shop_sku"] for row in rows if row["product_id"] is not None}
    return [sku for sku in newest if sku not in known] + [str(change[0]) for change in changes if change[0] in known]


async def drop(tx: Transaction, shop: ShopKey, skus: Sequence[str]) -> None:
    """The marketplace no longer has these offers. What they sold is remembered for when they come back."""
    rows = [row for row in await _lock(tx, shop, skus) if row["there"]]
    for row in rows:
        tx.publish(
            OfferRemoved(
                marketplace=shop.marketplace,
                shop=shop.shop,
                shop_sku=row["shop_sku"],
                reason="missing-there",
                noticed_at=tx.time,
            ),
            sequence=row["version"] + 1,
        )
    gone = [row["shop_sku"] for row in rows]
    await tx.execute(
        """UPDATE offers SET version = version + 1, there = false, asked = false, product_id = NULL,
                  mapped_by = NULL, pack_quantity = 1, digest = ''
           WHERE (marketplace, shop) = ($1, $2) AND shop_sku = ANY($3)""",
        *shop.pair,
        gone,
    )
    asked = [shop.case_id(row["shop_sku"]) for row in rows if row["asked"]]
    if asked:
        await close_cases(tx, case_ids=asked, outcome="overtaken", explanation="The marketplace has no such offer.")


async def match_offers(
    tx: Transaction, shop: ShopKey, skus: Sequence[str], terms: CatalogueTerms, *, operator: str | None = None
) -> int:
    """Decide anew what these offers sell, and publish what changed; how many were mapped or unmapped."""
    if not skus:
        return 0
    rows = [row for row in await _lock(tx, shop, skus) if row["there"]]
    names = [row["shop_sku"] for row in rows]
    lines = await SKUS.find_all(tx, shop.marketplace, names)
    products = await _products(tx, shop, names)
    candidates = await _candidates(tx, shop, rows)
    changes: list[tuple[object, ...]] = []
    answered: list[str] = []
    for row in rows:
        sku = row["shop_sku"]
        line = lines.get(sku)
        known = match(
            sku,
            line=(line.right, line.pack_quantity) if line else None,
            is_product=sku in products,
            candidates=[product for product, _ in candidates.get(row["product_sku"], ())],
            confirm_ean=terms.confirm_ean,
        )
        before = (row["product_id"], row["pack_quantity"], row["mapped_by"]) if row["product_id"] else None
        if isinstance(known, Unknown):
            # A product that left SFCC leaves its offer mapped: its stock falls to zero, and an order is understood.
            # A confirmed EAN stands until a person says otherwise.
            if before is None or before[2] != "mapping":
                continue
            after: tuple[str | None, int, str | None] = (None, 1, None)
            unmapped = OfferUnmapped(
                marketplace=shop.marketplace,
                shop=shop.shop,
                shop_sku=sku,
                was_product_id=before[0],
                operator=operator,
                unmapped_at=tx.time,
            )
            tx.publish(unmapped, sequence=row["version"] + 1)
        else:
            after = (known.product_id, known.pack_quantity, known.mapped_by)
            if before == after:
                continue
            tx.publish(_mapped(shop, sku, known, candidates.get(row["product_sku"], ()), tx, operator),
                       sequence=row["version"] + 1)  # fmt: skip
            if row["asked"]:
                answered.append(shop.case_id(sku))
        changes.append((sku, *after))
    if changes:
        await tx.execute(
            """UPDATE offers AS o SET version = o.version + 1, product_id = n.product_id,
                      pack_quantity = n.pack_quantity, mapped_by = n.mapped_by, asked = false
               FROM unnest($3::text[], $4::text[], $5::int[], $6::text[])
                    AS n(shop_sku, product_id, pack_quantity, mapped_by)
               WHERE (o.marketplace, o.shop, o.shop_sku) = ($1, $2, n.shop_sku)""",
            *shop.pair,
            *zip(*changes, strict=True),
        )
    if answered:
        await close_cases(tx, case_ids=answered, explanation="The offer is mapped.", by=operator)
    return len(changes)


async def ask(tx: Transaction, shop: ShopKey) -> int:
    """Ask people what offers sell that nobody knows, no more of them at a time than can be answered."""
    asked: int = await tx.fetchval(
        "SELECT count(*) FROM offers WHERE (marketplace, shop) = ($1, $2) AND product_id IS NULL AND there AND asked",
        *shop.pair,
    )
    rows = await tx.fetch(
        """UPDATE offers AS o SET asked = true FROM (
               SELECT marketplace, shop, shop_sku FROM offers
               WHERE (marketplace, shop) = ($1, $2) AND product_id IS NULL AND there AND NOT asked
               ORDER BY shop_sku LIMIT $3 FOR UPDATE) AS n
           WHERE (o.marketplace, o.shop, o.shop_sku) = (n.marketplace, n.shop, n.shop_sku)
           RETURNING o.shop_sku, o.product_sku""",
        *shop.pair,
        max(0, MOST_ASKED - asked),
    )
    candidates = await _candidates(tx, shop, rows)
    for row in sorted(rows, key=lambda one: str(one["shop_sku"])):
        same = candidates.get(row["product_sku"], ())
        await open_case(
            tx,
            UNMAPPED,
            about=shop.about(row["shop_sku"]),
            cause=shop.cause(row["shop_sku"]),
            marketplace=shop.marketplace,
            shop=shop.shop,
            facts={
                "shop SKU": row["shop_sku"],
                **({"marketplace's product": row["product_sku"]} if row["product_sku"] else {}),
                **({"EAN": same[0][1], "candidates": _listed(sorted(p for p, _ in same))} if same else {}),
            },
        )  # fmt: skip
    return len(rows)


def _listed(names: Sequence[str]) -> str:
    """As many of the names as a fact shows, whole: each is offered to the person as a choice."""
    shown = ""
    for name in names:
        longer = f"{shown}, {name}" if shown else name
        if len(longer) > _LONGEST_FACT:
            break
        shown = longer
    return shown


def _mapped(
    shop: ShopKey, sku: str, known: Sells, candidates: Sequence[tuple[str, str]], tx: Transaction, operator: str | None
) -> OfferMapped:
    return OfferMapped(
        marketplace=shop.marketplace,
        shop=shop.shop,
        shop_sku=sku,
        product_id=known.product_id,
        pack_quantity=known.pack_quantity,
        ean=next((ean for product, ean in candidates if product == known.product_id), None),
        mapped_by=known.mapped_by,
        operator=operator,
        mapped_at=tx.time,
    )


async def _lock(
    tx: Transaction, shop: ShopKey, skus: Sequence[str], *, create: bool = False
) -> Sequence[Mapping[str, Any]]:
    """The rows of these offers, in the order of their SKUs."""
    ordered = sorted(set(skus))
    if create:
        await tx.execute(
            """INSERT INTO offers (marketplace, shop, shop_sku) SELECT $1, $2, unnest($3::text[])
               ON CONFLICT DO NOTHING""",
            *shop.pair,
            ordered,
        )
    return await tx.fetch(
        """SELECT shop_sku, version, there, digest, product_sku, product_id, pack_quantity, mapped_by, asked
           FROM offers WHERE (marketplace, shop) = ($1, $2) AND shop_sku = ANY($3) ORDER BY shop_sku FOR UPDATE""",
        *shop.pair,
        ordered,
    )


async def _products(tx: Transaction, shop: ShopKey, ids: Sequence[str]) -> set[str]:
    """Which of the ids are products that the shop's site can sell."""
    rows = await tx.fetch(
        """SELECT p.product_id FROM products AS p JOIN site_products AS s ON (s.site, s.product_id) = ($1, p.product_id)
           WHERE p.product_id = ANY($2) AND p.sellable AND NOT p.gone""",
        shop.site,
        list(ids),
    )
    return {row["product_id"] for row in rows}


async def _candidates(
    tx: Transaction, shop: ShopKey, rows: Sequence[Mapping[str, Any]]
) -> dict[str | None, list[tuple[str, str]]]:
    """Per product of the marketplace, our products (and the EAN) that it knows by the same EAN."""
    skus = sorted({row["product_sku"] for row in rows if row["product_sku"]})
    found = await tx.fetch(
        """SELECT l.product_sku, l.product_id, l.ean FROM listings AS l
           JOIN products AS p ON p.product_id = l.product_id
           JOIN site_products AS s ON (s.site, s.product_id) = ($3, l.product_id)
           WHERE l.marketplace = $1 AND l.product_sku = ANY($2) AND p.sellable AND NOT p.gone
           ORDER BY l.product_id""",
        shop.marketplace,
        skus,
        shop.site,
    )
    candidates: dict[str | None, list[tuple[str, str]]] = {}
    for row in found:
        candidates.setdefault(row["product_sku"], []).append((row["product_id"], row["ean"]))
    return candidates
