"""Orders come in: each version once, with its events, its questions for people and what follows for SFCC.

Everything about one page happens in one transaction: rows, buyers, events, cases and what is owed. Whoever reads
the same order meanwhile, a second poller, a re-scan, a back-fill, waits for its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog

from services.order_ingestor import reading, store
from services.order_ingestor.creation import Adopt, Hold, Leave, Terms, Wait, country_cause, judge, sku_cause
from services.order_ingestor.lifecycle import CALLED_OFF, CapturedBy, Followed, follow
from services.order_ingestor.model import NEVER_CREATED, Buyer, Known, Problem, Product, Seen, Stage, Told
from shared.cases import case_id_of, close_cases, open_case
from shared.codec import encode
from shared.errors import Permanent
from shared.events.base import Event
from shared.events.orders import OrderCancelled, OrderChanged, OrderFacts
from shared.kafka import MAX_RECORD_BYTES
from shared.mappings import SKUS, Mapped, MappingTable
from shared.mirakl.orders import Order, UnreadableOrder
from shared.money import Money
from shared.obligations import Kind, Owed, owe_all
from shared.outbox import Transaction
from shared.settings import ShopSettings
from shared.telemetry import begin_trace
from shared.topics import INGESTOR

log = structlog.get_logger(__name__)

COUNTRIES: Final = MappingTable("country", Mapped)
"""A country as a marketplace writes it to its two letters, where ISO 3166 does not know it."""

UNREADABLE: Final = "order-unreadable"
REFUSED: Final = "order-refused-by-sfcc"
NOT_LINKED: Final = "order-not-linked"
NOT_UPDATED: Final = "sfcc-order-not-updated"
SENT_ANYHOW: Final = "order-cancelled-while-shipped"
TOTALS_DIFFER: Final = "order-totals-differ"
PARTLY_CANCELLED: Final = "order-partly-cancelled"
DISAGREEMENTS: Final = (NOT_UPDATED, SENT_ANYHOW, TOTALS_DIFFER)
"""Cases that a change in SFCC alone may end."""
_AT_ONCE: Final = 200
_LARGEST_EVENT: Final = MAX_RECORD_BYTES - 8_192
"""Room for headers and key."""
_LATEST: Final = timedelta(days=2)
"""An order without a shipping deadline is due so long after it was made."""


class OrderRef(msgspec.Struct, frozen=True):
    """Which order an obligation is about; all else is read when it is done."""

    marketplace: str
    order_id: str


@dataclass(frozen=True, slots=True)
class Kinds:
    """What may be owed for an order."""

    create: Kind[OrderRef]
    adopt: Kind[OrderRef]
    update: Kind[OrderRef]


@dataclass(slots=True)
class Intake:
    """What capturing needs to know: the shops' terms, and what is owed for an order."""

    shops: Mapping[tuple[str, str], ShopSettings]
    sfcc_account: str
    kinds: Kinds
    terms: dict[tuple[str, str], Terms] = field(init=False)

    def __post_init__(self) -> None:
        self.terms = {key: terms_of(shop) for key, shop in self.shops.items()}

    # A page of orders -------------------------------------------------------------------------------

    async def take_in(
        self,
        tx: Transaction,
        shop: ShopSettings,
        orders: Sequence[Order],
        unreadable: Sequence[UnreadableOrder],
        read_at: datetime,
        by: CapturedBy,
        *,
        careful: bool = False,
    ) -> int:
        """Take a page in; how many of its orders were news.

        With `careful`, every order is tried by itself first, so that one that cannot be translated, or whose events
        nobody could read, is kept aside and its neighbours are taken in; without, it fails the page.
        """
        market, shop_id = shop.marketplace_name, shop.shop_id
        skus = {line.offer_sku or line.product_shop_sku or "" for order in orders for line in order.order_lines}
        products = await self._products(tx, market, shop_id, skus)
        seen: dict[str, Seen] = {}
        broken = list(unreadable)
        for order in orders:
            try:
                one = reading.seen(order, market, shop_id, products, read_at)
                seen[order.order_id] = _tried(one) if careful else one
            except Exception as error:
                # Whatever it is, it is this order's: it is kept, a person is asked, and its neighbours go on.
                if not careful:
                    raise
                broken.append(UnreadableOrder(order_id=order.order_id, reason=_why(error), raw=_raw(order)))
        read = frozenset(seen)
        # Most of an overlap is known already: only what is news is locked, or it would wait for, and hold up, what
        # is being noted of the same orders elsewhere.
        familiar = await store.peek(tx, market, seen)
        seen = {
            order_id: one
            for order_id, one in seen.items()
            if follow(familiar.get(order_id), one, tx.time, by) is not None
        }
        known = await store.claim(tx, market, shop_id, seen)
        countries = await self._countries(tx, market, (one.buyer for one in seen.values()))
        changed: list[Known] = []
        owed: list[Owed] = []
        buyers: dict[store.Key, Buyer] = {}
        linked: list[str] = []
        for order_id in sorted(seen):
            one, before = seen[order_id], known[order_id]
            followed = follow(before, one, tx.time, self._read_by(one.facts, by))
            if followed is None:
                continue
            after = self._after(before, one, followed)
            for event in followed.events:
                after = msgspec.structs.replace(after, version=after.version + 1)
                tx.publish(event, sequence=after.version, traceparent=after.traceparent)
            buyer = with_countries(one.buyer, countries)
            if not after.erased:
                buyers[market, order_id] = buyer
            after = await self._decide(tx, after, buyer, owed)
            if after.stage == "created" and before is not None:
                if _shows_in_sfcc(before, after):
                    owed.append(self._owe(self.kinds.update, after))
                await self._ask_about_parts(tx, after, followed.events)
                if after.linked and not before.linked:
                    linked.append(case_id_of(NOT_LINKED, f"order/{one.facts.key}", f"order/{one.facts.key}"))
            changed.append(after)
        await store.write(tx, changed)
        await store.keep_buyers(tx, buyers)
        await owe_all(tx, owed)
        if linked:
            await close_cases(tx, case_ids=linked, explanation="The marketplace shows the number.")
        await self._keep_unreadable(tx, shop, broken, read)
        return len(changed)

    def _read_by(self, facts: OrderFacts, by: CapturedBy) -> CapturedBy:
        """Orders of before the cut-over are adopted, however they were read."""
        return "adoption" if self.terms[facts.marketplace, facts.shop].adopts(facts) else by

    def _after(self, before: Known | None, seen: Seen, followed: Followed) -> Known:
        if before is None:
            before = Known(
                facts=seen.facts,
                version=0,
                read_at=seen.read_at,
                told=Told(),
                stage="captured",
                traceparent=_begin_trace(seen.facts),
            )
        return msgspec.structs.replace(
            before,
            facts=seen.facts,
            read_at=seen.read_at,
            told=followed.told,
            linked=followed.linked,
            sfcc=msgspec.structs.replace(before.sfcc, reference=seen.reference),
        )

    # What follows -----------------------------------------------------------------------------------

    async def _decide(self, tx: Transaction, order: Known, buyer: Buyer | None, owed: list[Owed]) -> Known:
        """The order with its stage as it is from now on; what is owed is added, questions are asked and closed."""
        if order.stage not in NEVER_CREATED:
            return order
        facts = order.facts
        terms = self.terms[facts.marketplace, facts.shop]
        stage: Stage = "captured"
        problems: tuple[Problem, ...] = ()
        if order.stage == "refused":
            await close_cases(
                tx,
                about=f"order/{facts.key}",
                code=REFUSED,
                explanation="A newer version of the order was judged anew.",
            )
        match judge(facts, buyer, terms, accepted=order.accepted, reference=order.sfcc.reference):
            case Wait():
                pass
            case Leave(reason):
                stage = "left"
                log.info("order_left", marketplace=facts.marketplace, shop=facts.shop, reason=reason)
            case Hold(problems):
                stage = "held"
            case verdict if terms.live:
                stage = "owed"
                owed.append(self._owe(self.kinds.adopt if isinstance(verdict, Adopt) else self.kinds.create, order))
            case _:
                stage = "observed"
                log.info("would_create_order", marketplace=facts.marketplace, shop=facts.shop, order_id=facts.order_id)
        await self._ask(tx, order, problems)
        return msgspec.structs.replace(order, stage=stage, problems=problems)

    def _owe(self, kind: Kind[OrderRef], order: Known) -> Owed:
        facts = order.facts
        return Owed(
            kind,
            key=f"order/{facts.key}",
            payload=OrderRef(facts.marketplace, facts.order_id),
            due_at=facts.shipping_deadline or facts.created_at + _LATEST,
            account=self.sfcc_account,
            about=f"order/{facts.key}",
            traceparent=order.traceparent,
        )

    async def _ask(self, tx: Transaction, order: Known, problems: Sequence[Problem]) -> None:
        """Open the cases that are new and close those whose cause is gone."""
        facts, about = order.facts, f"order/{order.facts.key}"
        before = {(one.code, one.cause) for one in order.problems}
        now = {(one.code, one.cause) for one in problems}
        for problem in problems:
            if (problem.code, problem.cause) not in before:
                await open_case(
                    tx,
                    problem.code,
                    about=about,
                    cause=problem.cause,
                    due_at=facts.shipping_deadline,
                    money_at_risk=facts.total_price,
                    marketplace=facts.marketplace,
                    shop=facts.shop,
                    facts={name: value[:1000] for name, value in problem.facts.items()},
                )
        for code, cause in sorted(before - now):
            await close_cases(tx, about=about, cause=cause, code=code, explanation="It was put right.")

    async def _ask_about_parts(self, tx: Transaction, order: Known, events: Iterable[Event]) -> None:
        """SFCC's order keeps what it was created with, so whoever packs it has to be told of a part that is off."""
        facts = order.facts
        for event in events:
            if not isinstance(event, OrderCancelled) or event.whole:
                continue
            amounts = [one.amount for one in event.lines if one.amount is not None]
            await open_case(
                tx,
                PARTLY_CANCELLED,
                about=f"order/{facts.key}",
                # The next part is another question.
                cause=f"cancellation/{facts.key}/{order.version}",
                due_at=facts.shipping_deadline,
                money_at_risk=Money.total(amounts, facts.currency) if amounts else None,
                marketplace=facts.marketplace,
                shop=facts.shop,
                facts={"SFCC order": order.sfcc_order_no or ""}
                | {f"line {one.line_id}": f"{one.quantity} cancelled" for one in event.lines},
            )

    # Again ------------------------------------------------------------------------------------------

    async def compare_again(self, tx: Transaction) -> None:
        """Owe the orders that SFCC and we disagree about an update: it finds out whether one was put right there."""
        found = await tx.fetch(
            """SELECT about FROM (SELECT DISTINCT about FROM cases WHERE closed_at IS NULL AND code = ANY($1)) AS n
               ORDER BY random() LIMIT $2""",
            DISAGREEMENTS,
            _AT_ONCE,
        )
        keys = [(market, order_id) for _, market, order_id in (row["about"].split("/", 2) for row in found)]
        await owe_all(
            tx,
            [
                self.owe_update(order)
                for (market, _), order in sorted((await store.lock(tx, keys)).items())
                if order.stage == "created"
                and (terms := self.terms.get((market, order.facts.shop))) is not None
                and terms.live
            ],
        )

    async def look_again(self, tx: Transaction, keys: Iterable[store.Key], *, accepted: bool = False) -> None:
        """Decide anew on orders that wait: something they need may have been put right."""
        owed: list[Owed] = []
        changed: list[Known] = []
        buyers: dict[store.Key, Buyer] = {}
        orders = {
            key: order
            for key, order in (await store.lock(tx, keys)).items()
            if order.stage in NEVER_CREATED and (key[0], order.facts.shop) in self.terms
        }
        known_buyers = await store.buyers_of(tx, orders)
        products = await self._products_of(tx, orders.values())
        for key, order in sorted(orders.items()):
            before = order
            facts = reading.with_products(order.facts, products.get((key[0], order.facts.shop), {}))
            if facts != order.facts:
                order = msgspec.structs.replace(order, facts=facts, version=order.version + 1)
                tx.publish(
                    OrderChanged(
                        **{name: getattr(facts, name) for name in type(facts).__struct_fields__},
                        read_at=order.read_at,
                        previous_state=facts.state,
                    ),
                    sequence=order.version,
                    traceparent=order.traceparent,
                )
            order = msgspec.structs.replace(order, accepted=order.accepted or accepted)
            buyer = known_buyers.get(key)
            if buyer is not None and buyer.unknown_country is not None:
                buyer = with_countries(buyer, await self._countries(tx, key[0], [buyer]))
                buyers[key] = buyer
            after = await self._decide(tx, order, buyer, owed)
            if after != before:
                changed.append(after)
        await store.write(tx, changed)
        await store.keep_buyers(tx, buyers)
        await owe_all(tx, owed)

    def owe_update(self, order: Known) -> Owed:
        """The SFCC order is to show what is known now."""
        return self._owe(self.kinds.update, order)

    # What is looked up ------------------------------------------------------------------------------

    async def _products(self, tx: Transaction, market: str, shop: str, skus: Iterable[str]) -> dict[str, Product]:
        """What SKUs sell: a person's own mapping before the offer's."""
        wanted = {sku for sku in skus if sku}
        if not wanted:
            return {}
        products = await store.products_of(tx, market, shop, wanted)
        mapped = await SKUS.find_all(tx, market, wanted)
        return products | {sku: Product(found.right, found.pack_quantity) for sku, found in mapped.items()}

    async def _products_of(self, tx: Transaction, orders: Iterable[Known]) -> dict[tuple[str, str], dict[str, Product]]:
        skus: dict[tuple[str, str], set[str]] = {}
        for order in orders:
            key = order.facts.marketplace, order.facts.shop
            skus.setdefault(key, set()).update(line.shop_sku for line in order.facts.lines)
        return {key: await self._products(tx, *key, wanted) for key, wanted in sorted(skus.items())}

    async def _countries(self, tx: Transaction, market: str, buyers: Iterable[Buyer]) -> dict[str, str]:
        """What people say of countries that ISO 3166 does not know."""
        unknown = {country for buyer in buyers if (country := buyer.unknown_country) is not None}
        if not unknown:
            return {}
        return {sent: found.right for sent, found in (await COUNTRIES.find_all(tx, market, unknown)).items()}

    async def _keep_unreadable(
        self, tx: Transaction, shop: ShopSettings, broken: Sequence[UnreadableOrder], seen: Iterable[str]
    ) -> None:
        """Keep what could not be read, as it came, and ask; what can be read again is an order like others."""
        market = shop.marketplace_name
        healed = await tx.fetch(
            "DELETE FROM unreadable_orders WHERE marketplace = $1 AND order_id = ANY($2) RETURNING order_id",
            market,
            sorted(seen),
        )
        for row in healed:
            await close_cases(tx, about=f"order/{market}/{row['order_id']}", code=UNREADABLE, explanation="Read now.")
        for one in broken:
            order_id = one.order_id.replace("\0", "")[:255] or "unknown"
            await tx.execute(
                """INSERT INTO unreadable_orders (marketplace, order_id, shop, reason, raw, seen_at)
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (marketplace, order_id)
                   DO UPDATE SET reason = excluded.reason, raw = excluded.raw, seen_at = excluded.seen_at""",
                market,
                order_id,
                shop.shop_id,
                one.reason[:500],
                one.raw,
                tx.time,
            )
            await open_case(
                tx,
                UNREADABLE,
                about=f"order/{market}/{order_id}"[:400],
                marketplace=market,
                shop=shop.shop_id,
                facts={"reason": one.reason[:500]},
            )


def terms_of(shop: ShopSettings) -> Terms:
    """What the settings say of one shop's orders."""
    return Terms(
        site=shop.shop.site,
        taxation=shop.site.taxation,
        currencies=tuple(shop.marketplace.currencies),
        create_when=shop.shop.create_orders,
        shipping_methods=shop.site.shipping_methods,
        default_shipping_method=shop.site.default_shipping_method,
        orders_from=shop.orders_from,
        live=shop.mode(INGESTOR) == "live",
    )


def with_countries(buyer: Buyer, mapped: Mapping[str, str]) -> Buyer:
    """The buyer with the countries that people mapped."""
    if not mapped or buyer.unknown_country is None:
        return buyer
    changes = {
        name: msgspec.structs.replace(address, country_code=mapped[address.country])
        for name, address in (("billing", buyer.billing), ("shipping", buyer.shipping))
        if address is not None and address.country_code is None and address.country and address.country in mapped
    }
    return msgspec.structs.replace(buyer, **changes)


def causes_of(marketplace: str, kind: str, left: str) -> list[str]:
    """What waits for a line of a mapping table."""
    match kind:
        case "sku":
            return [sku_cause(marketplace, left)]
        case "country":
            return [country_cause(marketplace, left)]
    return []


def _begin_trace(facts: OrderFacts) -> str:
    """The trace of an order begins where it is captured; all that is done for it continues it."""
    return begin_trace("capture order", attributes={"bridge.order": facts.key})


def _tried(seen: Seen) -> Seen:
    """The order, if its events can be written."""
    followed = follow(None, seen, seen.read_at, "poll")
    for event in followed.events if followed else ():
        if len(encode(event)) > _LARGEST_EVENT:
            raise Permanent("an order too large for a record", rule="too-large", field="$")
    return seen


def _why(error: Exception) -> str:
    """The rule and the place, never the value: an amount's or an id's text is a vendor's."""
    return f"{type(error).__name__}: {str(error).split(':')[0]}"[:300]


def _raw(order: Order) -> bytes:
    try:
        return msgspec.json.encode(order)
    except ValueError:
        return b""


def _shows_in_sfcc(before: Known, after: Known) -> bool:
    """Whether what changed is something that the SFCC order shows."""
    called_off = (after.facts.state in CALLED_OFF) != (before.facts.state in CALLED_OFF)
    return called_off or before.told.refunded != after.told.refunded
