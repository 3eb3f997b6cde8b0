"""The numbers that offers show, computed for many offers at once, under their locks.

Whatever changes (stock, an order, a mapping, a shop's terms) names products or offers; their numbers are computed anew
from what holds now, published, and marked to go out. The mark stays until the number has gone out, whatever it was
before: 1 -> 0 -> 1 sends the last 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from services.inventory_publisher.allocation import Stock, Terms, shown, units_asked
from services.inventory_publisher.guard import Falls, is_mass, window
from services.inventory_publisher.sources import is_degraded
from shared.cases import case_id_of, close_cases, open_case
from shared.clock import monotonic
from shared.database import Database, Rows
from shared.events.stock import OfferStockComputed, OfferStockHeld
from shared.handlers import Received
from shared.outbox import Transaction
from shared.rules import Rule
from shared.settings import ShopSettings

STOCK_RULE: Final = Rule("stock", Terms)
HOLD_CASE: Final = "stock-mass-zero"
AT_ONCE: Final = 1_000
_COUNTED_SECONDS: Final = 30.0
_NONE: Final = Decimal(0)

ShopKey = tuple[str, str]
"""Marketplace and shop."""
Causes = Mapping[str, Received[Any]]
"""By product: the event whose trace goes on."""


class Place(NamedTuple):
    """Where a site's stock is."""

    kind: str
    name: str

    @property
    def text(self) -> str:
        """The place as rows of sources name it."""
        return f"{self.kind}/{self.name}"


class OfferKey(NamedTuple):
    """One offer."""

    marketplace: str
    shop: str
    shop_sku: str


@dataclass(slots=True)
class Offer:
    """An offer under its lock."""

    key: OfferKey
    product_id: str
    pack: int
    version: int
    quantity: int | None
    ats: Decimal | None
    open_units: Decimal | None
    as_of: datetime | None
    rule: str | None
    hold_case: str | None
    shown: int | None
    dirty: bool = False

    @property
    def shop(self) -> ShopKey:
        return self.key.marketplace, self.key.shop


@dataclass(frozen=True, slots=True)
class Fall:
    """An offer that would fall to zero, and when its stock was seen so."""

    offer: Offer
    units: int


def place_of(shop: ShopSettings) -> Place:
    """Where the stock of a shop's site is."""
    site = shop.site
    if site.location_group:
        return Place("group", site.location_group)
    if site.location:
        return Place("location", site.location)
    return Place("inventory-list", site.inventory_list or "")


def settings_terms(shop: ShopSettings) -> Terms:
    """What the settings say where no rule does."""
    said = shop.shop
    return Terms(
        buffer=said.buffer,
        cap=said.cap,
        allocation_percent=said.allocation_percent,
        mass_zero_percent=said.mass_zero_percent,
        mass_zero_minutes=said.mass_zero_minutes,
    )


@dataclass(slots=True)
class Numbers:
    """The computation for all shops of the settings."""

    shops: Mapping[ShopKey, ShopSettings]
    places: Mapping[ShopKey, Place] = field(init=False)
    terms: dict[ShopKey, Terms] = field(init=False)
    _on_show: dict[ShopKey, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = {key: place_of(shop) for key, shop in self.shops.items()}
        self.terms = {key: settings_terms(shop) for key, shop in self.shops.items()}

    async def of_products(
        self, tx: Transaction, products: Iterable[str], causes: Causes | None = None, *, again: bool = False
    ) -> None:
        """Compute every offer that sells one of these products; with `again` see `of_offers`."""
        wanted = sorted(set(products))
        if wanted:
            rows = await tx.fetch(
                """SELECT * FROM offers WHERE product_id = ANY($1)
                   ORDER BY marketplace, shop, shop_sku FOR UPDATE""",
                wanted,
            )
            await self._compute(tx, rows, causes or {}, again)

    async def of_offers(self, tx: Transaction, keys: Iterable[OfferKey], *, again: bool) -> None:
        """Compute these offers; with `again` their numbers go out once more although they may not have changed."""
        wanted = sorted(set(keys))
        if wanted:
            rows = await tx.fetch(
                """SELECT o.* FROM offers AS o
                   JOIN unnest($1::text[], $2::text[], $3::text[]) AS n(marketplace, shop, shop_sku)
                       USING (marketplace, shop, shop_sku)
                   ORDER BY marketplace, shop, shop_sku FOR UPDATE OF o""",
                *map(list, zip(*wanted, strict=True)),
            )
            await self._compute(tx, rows, {}, again)

    async def _compute(self, tx: Transaction, rows: Sequence[Mapping[str, Any]], causes: Causes, again: bool) -> None:
        offers = [_offer(row) for row in rows if row["product_id"] is not None]
        offers = [offer for offer in offers if offer.shop in self.places]
        products = sorted({offer.product_id for offer in offers})
        if not products:
            return
        levels = {
            (row["product_id"], Place(row["place_kind"], row["place"])): row
            for row in await tx.fetch(
                # What we read last and said last of a product was still true when the newest complete read began.
                """SELECT l.*, EXISTS (SELECT 1 FROM stock_sources WHERE stale_since IS NOT NULL
                                       AND l.place_kind || '/' || l.place = ANY(places)) AS stale,
                          CASE WHEN r.as_of = l.as_of THEN greatest(l.as_of, s.read_at) ELSE l.as_of END AS true_at
                   FROM levels AS l LEFT JOIN reported AS r USING (product_id, place_kind, place)
                   LEFT JOIN stock_sources AS s ON s.source = 'oci/' || l.place_kind || '/' || l.place
                   WHERE l.product_id = ANY($1)""",
                products,
            )
        }
        asked = await self._open_units(tx, products, levels)
        changed: list[Offer] = []
        falls: dict[ShopKey, list[Fall]] = defaultdict(list)
        for offer in offers:
            place = self.places[offer.shop]
            level = levels.get((offer.product_id, place))
            if level is None:
                continue  # SFCC has said nothing of it yet: what the marketplace shows stays.
            terms, units = self.terms[offer.shop], asked.get((offer.product_id, place), _NONE)
            stock = Stock(level["ats"], level["perpetual"], level["removed"])
            number = shown(stock, terms, units, offer.pack, stale=level["stale"])
            before = offer.quantity, offer.ats, offer.open_units, offer.rule
            after = number.quantity, stock.ats, units, number.rule
            offer.dirty = again or offer.quantity != number.quantity
            if before == after and not offer.dirty:
                continue
            fell = number.quantity == 0 and offer.quantity != 0 and offer.shown
            if fell and shown(stock, terms, _NONE, offer.pack).quantity == 0:
                falls[offer.shop].append(Fall(offer, offer.shown or 0))
            offer.quantity, offer.ats, offer.open_units, offer.rule = after
            # News is as old as the change; whatever else brought us here rests on what the last read confirmed.
            offer.as_of = level["as_of"] if offer.product_id in causes else level["true_at"]
            if offer.hold_case is not None and number.quantity > 0:
                offer.hold_case, offer.dirty = None, True
            offer.version += 1
            changed.append(offer)
            tx.publish(
                self._computed(offer, terms, number.buffers, level["counted_at"], tx.time),
                sequence=offer.version,
                cause=causes.get(offer.product_id),
            )
        for shop in sorted(falls):
            await self._judge(tx, shop, falls[shop], changed)
        await _write(tx, changed)

    def _computed(
        self, offer: Offer, terms: Terms, buffers: int, counted_at: datetime | None, now: datetime
    ) -> OfferStockComputed:
        assert offer.quantity is not None
        assert offer.ats is not None
        assert offer.open_units is not None
        assert offer.as_of is not None
        return OfferStockComputed(
            **offer.key._asdict(),
            quantity=offer.quantity,
            product_id=offer.product_id,
            ats=offer.ats,
            as_of=offer.as_of,
            computed_at=now,
            pack_quantity=offer.pack,
            allocation_percent=terms.allocation_percent,
            buffer=Decimal(terms.buffer * buffers),
            open_units=offer.open_units,
            cap=terms.cap,
            rule=offer.rule or "",
            degraded=buffers > 1,
            counted_at=counted_at,
        )

    async def _open_units(
        self, tx: Transaction, products: Sequence[str], levels: Mapping[tuple[str, Place], Mapping[str, Any]]
    ) -> dict[tuple[str, Place], Decimal]:
        """SFCC units on marketplace orders that SFCC has not absorbed, by product and place."""
        # What left before its stock was read asks for nothing: a week of it is not even looked up.
        read = [
            (product, *shop, level["as_of"])
            for (product, place), level in levels.items()
            for shop, shops_place in self.places.items()
            if shops_place == place
        ]
        rows = await tx.fetch(
            """SELECT l.product_id, l.marketplace, l.shop, l.quantity * l.pack AS units,
                      coalesce(r.absorbed, 0) AS absorbed
               FROM order_lines AS l
               LEFT JOIN unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[])
                    AS v(product_id, marketplace, shop, as_of) USING (product_id, marketplace, shop)
               LEFT JOIN LATERAL (
                   SELECT sum(reserved) AS absorbed FROM reservations AS r WHERE r.absorbed
                     AND (r.marketplace, r.order_id, r.line_id) = (l.marketplace, l.order_id, l.line_id)) AS r ON true
               WHERE l.product_id = ANY($1) AND (l.gone_at IS NULL OR v.as_of IS NULL OR l.gone_at >= v.as_of)""",
            products,
            *([one[column] for one in read] for column in range(4)),
        )
        asked: dict[tuple[str, Place], Decimal] = defaultdict(Decimal)
        for row in rows:
            place = self.places.get((row["marketplace"], row["shop"]))
            if place is not None:
                asked[row["product_id"], place] += units_asked(Decimal(row["units"]), row["absorbed"])
        return asked

    # The mass-zero guard ----------------------------------------------------------------------------

    async def _judge(self, tx: Transaction, shop: ShopKey, falls: Sequence[Fall], changed: Sequence[Offer]) -> None:
        """Let falls to zero through, or hold them and ask a person."""
        terms = self.terms[shop]
        # All falls of a shop are judged one batch after the other.
        state = await tx.fetchrow(
            "SELECT held_at, approved_until FROM shops WHERE (marketplace, shop) = ($1, $2) FOR UPDATE", *shop
        )
        passed = await tx.fetchrow(
            """SELECT count(*) AS offers, coalesce(sum(units), 0) AS units FROM falls
               WHERE (marketplace, shop) = ($1, $2) AND at > $3""",
            *shop,
            tx.time - window(terms),
        )
        assert passed is not None  # an aggregate has a row
        on_show = await self._count_on_show(tx, shop)
        mass = is_mass(
            terms,
            on_show,
            Falls(passed["offers"], int(passed["units"])),
            Falls(len(falls), sum(fall.units for fall in falls)),
            tx.time,
            held_at=state["held_at"] if state else None,
            approved_until=state["approved_until"] if state else None,
        )
        if not mass:
            await tx.execute(
                """INSERT INTO falls SELECT $1, $2, sku, $3, units FROM unnest($4::text[], $5::int[]) AS n(sku, units)
                   ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET at = excluded.at, units = excluded.units""",
                *shop,
                tx.time,
                [fall.offer.key.shop_sku for fall in falls],
                [fall.units for fall in falls],
            )
            return
        account = "/".join(shop)
        about = f"shop/{account}"
        examples = ", ".join(f"{fall.offer.key.shop_sku} ({fall.units} -> 0)" for fall in falls[:5])
        case_id = await open_case(
            tx,
            HOLD_CASE,
            about=about,
            marketplace=shop[0],
            shop=shop[1],
            facts={
                "offers on show": str(on_show),
                "limit in percent": str(terms.mass_zero_percent),
                "such as": examples,
            },
        )
        await tx.execute(
            """INSERT INTO shops (marketplace, shop, held_at) VALUES ($1, $2, $3)
               ON CONFLICT (marketplace, shop) DO UPDATE SET held_at = excluded.held_at""",
            *shop,
            tx.time,
        )
        for fall in falls:
            fall.offer.hold_case = case_id
            fall.offer.version += 1
            tx.publish(_held(fall.offer.key, fall.units, case_id, tx.time), sequence=fall.offer.version)
        await self._pull_back(tx, shop, case_id, [offer.key.shop_sku for offer in changed if offer.shop == shop])

    async def _pull_back(self, tx: Transaction, shop: ShopKey, case_id: str, but: Sequence[str]) -> None:
        """What fell a moment ago and has not gone out yet belongs to the mass."""
        rows = await tx.fetch(
            """UPDATE offers AS o SET hold_case = $3, version = o.version + 1 FROM falls AS f
               WHERE (f.marketplace, f.shop) = ($1, $2) AND f.at > $4
                 AND (o.marketplace, o.shop, o.shop_sku) = (f.marketplace, f.shop, f.shop_sku)
                 AND o.dirty AND o.quantity = 0 AND o.hold_case IS NULL AND o.shop_sku <> ALL($5)
               RETURNING o.shop_sku, o.shown, o.version""",
            *shop,
            case_id,
            tx.time - window(self.terms[shop]),
            but,
        )
        for row in rows:
            key = OfferKey(*shop, row["shop_sku"])
            tx.publish(_held(key, row["shown"] or 0, case_id, tx.time), sequence=row["version"])

    async def _count_on_show(self, tx: Transaction, shop: ShopKey) -> int:
        """As of half a minute ago at most: a share of many offers does not turn on a few."""
        known = self._on_show.get(shop)
        if known is not None and monotonic() - known[1] < _COUNTED_SECONDS and known[0] > AT_ONCE:
            return known[0]
        count: int = await tx.fetchval(
            "SELECT count(*) FROM offers WHERE (marketplace, shop) = ($1, $2) AND shown > 0", *shop
        )
        self._on_show[shop] = count, monotonic()
        return count

    async def decide_hold(self, tx: Transaction, case_id: str, *, approved: bool, by: str) -> None:
        """A person lets what is held go out, or discards it: then what is on show stays until the next word."""
        shop = next((key for key in self.shops if case_id_of(HOLD_CASE, "shop/" + "/".join(key)) == case_id), None)
        if shop is None:
            return
        await tx.execute(
            """UPDATE offers SET hold_case = NULL, dirty = dirty AND $2,
                      quantity = CASE WHEN $2 THEN quantity ELSE shown END WHERE hold_case = $1""",
            case_id,
            approved,
        )
        await tx.execute(
            "UPDATE shops SET held_at = NULL, approved_until = $3 WHERE (marketplace, shop) = ($1, $2)",
            *shop,
            tx.time + window(self.terms[shop]) if approved else None,
        )
        await tx.execute("DELETE FROM falls WHERE (marketplace, shop) = ($1, $2)", *shop)
        word = "Approved: the zeros go out." if approved else "Discarded: what is on show stays."
        await close_cases(tx, case_ids=[case_id], outcome="settled-by-operator", explanation=word, by=by)

    async def close_empty_holds(self, tx: Transaction) -> None:
        """The stock came back by itself: nobody has to decide any more."""
        for shop in self.shops:
            case_id = case_id_of(HOLD_CASE, "shop/" + "/".join(shop))
            held = await tx.fetchval("SELECT EXISTS (SELECT 1 FROM offers WHERE hold_case = $1)", case_id)
            if not held and await close_cases(
                tx, case_ids=[case_id], outcome="overtaken", explanation="The stock came back."
            ):
                await tx.execute("UPDATE shops SET held_at = NULL WHERE (marketplace, shop) = ($1, $2)", *shop)

    # Terms ------------------------------------------------------------------------------------------

    async def learn_terms(self, rows: Rows | Database) -> None:
        """Read what rules say; the settings hold where there is none."""
        for key, shop in self.shops.items():
            self.terms[key] = await STOCK_RULE.find(rows, *key, settings_terms(shop))

    async def apply_terms(self, tx: Transaction, shop: ShopKey) -> bool:
        """Compute some more offers of a shop whose terms have changed; whether there are more to do.

        That its stock has become stale, or is fresh again, is such a change.
        """
        place = self.places[shop]
        text = msgspec.json.encode(self.terms[shop]).decode() + "/".join(place)
        if await is_degraded(tx, place.text):
            text += " stale"
        row = await tx.fetchrow("SELECT terms, recompute_after FROM shops WHERE (marketplace, shop) = ($1, $2)", *shop)
        after = row["recompute_after"] if row is not None and row["terms"] == text else ""
        if after is None:
            return False
        found = await tx.fetch(
            """SELECT shop_sku FROM offers WHERE (marketplace, shop) = ($1, $2) AND shop_sku > $3
               ORDER BY shop_sku LIMIT $4""",
            *shop,
            after,
            AT_ONCE,
        )
        await self.of_offers(tx, [OfferKey(*shop, one["shop_sku"]) for one in found], again=False)
        last = found[-1]["shop_sku"] if len(found) == AT_ONCE else None
        await tx.execute(
            """INSERT INTO shops (marketplace, shop, terms, recompute_after) VALUES ($1, $2, $3, $4)
               ON CONFLICT (marketplace, shop) DO UPDATE SET terms = excluded.terms,
                   recompute_after = excluded.recompute_after""",
            *shop,
            text,
            last,
        )
        return last is not None


def _offer(row: Mapping[str, Any]) -> Offer:
    return Offer(
        OfferKey(row["marketplace"], row["shop"], row["shop_sku"]),
        row["product_id"],
        row["pack"],
        row["version"],
        row["quantity"],
        row["ats"],
        row["open_units"],
        row["as_of"],
        row["rule"],
        row["hold_case"],
        row["shown"],
    )


def _held(key: OfferKey, units: int, case_id: str, now: datetime) -> OfferStockHeld:
    return OfferStockHeld(**key._asdict(), quantity=0, shown=units, guard="mass-zero", case_id=case_id, held_at=now)


async def _write(tx: Transaction, offers: Sequence[Offer]) -> None:
    """Write offers whose rows are locked."""
    if offers:
        await tx.execute(
            """UPDATE offers AS o SET version = n.version, quantity = n.quantity, ats = n.ats,
                      open_units = n.open_units, as_of = n.as_of, rule = n.rule, hold_case = n.hold_case,
                      dirty = o.dirty OR n.dirty
               FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::numeric[], $7::numeric[],
                           $8::timestamptz[], $9::text[], $10::text[], $11::boolean[])
                    AS n(marketplace, shop, shop_sku, version, quantity, ats, open_units, as_of, rule, hold_case, dirty)
               WHERE (o.marketplace, o.shop, o.shop_sku) = (n.marketplace, n.shop, n.shop_sku)""",
            *zip(
                *(
                    (
                        *one.key, one.version, one.quantity, one.ats, one.open_units, one.as_of, one.rule,
                        one.hold_case, one.dirty,
                    )
                    for one in offers
                ),
                strict=True,
            ),
        )  # fmt: skip
