"""What warehouses, the marketplace and people say, and what follows for an order's parcels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from msgspec.structs import replace
from opentelemetry.trace import SpanKind

from services.shipment_notifier import store
from services.shipment_notifier.announcing import with_facts, with_parcel, with_word
from services.shipment_notifier.carriers import Found, Unknown, resolve
from services.shipment_notifier.desk import GONE, LIST_UNKNOWN, UNMAPPED, Desk, ask_for_carrier, hold_ref, list_ref
from services.shipment_notifier.model import UNDER_WAY, Order
from services.shipment_notifier.store import Key, Platform
from shared import mappings, rules
from shared.cases import close_by_person, close_cases, open_case
from shared.events.control import (
    MappingRemoved,
    MappingSet,
    OperatorClosedCase,
    OperatorDecidedHold,
    OperatorSettledObligation,
)
from shared.events.orders import OrderCaptured, OrderChanged, OrderFacts
from shared.events.shipments import DispatchEvent, ParcelDispatched, ParcelTracked, ParcelWithdrawn
from shared.handlers import Handlers, Received, react, react_batch
from shared.mappings import CARRIERS
from shared.obligations import settle_by_person
from shared.outbox import Transaction
from shared.telemetry import end_stage, is_sampled, start_stage, traceparent_of
from shared.topics import NOTIFIER

log = structlog.get_logger(__name__)

IN_USE: Final = timedelta(days=90)
"""A word that was sent within is one that the warehouse writes."""
AT_ONCE: Final = 200
"""Orders that go on in one transaction."""


def reference() -> Handlers:
    """What must be known before the first parcel is judged."""
    return Handlers(*mappings.PROJECTORS, *rules.PROJECTORS)


@dataclass(slots=True)
class Following:
    """The handlers that react."""

    desk: Desk

    def handlers(self) -> Handlers:
        """All of them."""
        return Handlers(
            react_batch(OrderCaptured, self.note_orders),
            react_batch(OrderChanged, self.note_orders),
            react_batch(ParcelDispatched, self.note_parcels),
            react_batch(ParcelTracked, self.note_parcels),
            react_batch(ParcelWithdrawn, self.note_parcels),
            react_batch(MappingSet, self.note_mappings, "state"),
            react_batch(MappingRemoved, self.note_mappings, "state"),
            react(OperatorDecidedHold, self.decide),
            react(OperatorSettledObligation, self.settle),
            react(OperatorClosedCase, close_by_person),
        )

    async def note_orders(self, events: Sequence[Received[OrderFacts]], tx: Transaction) -> None:
        """Orders as the marketplace shows them now."""
        orders = await store.claim(tx, [(one.event.marketplace, one.event.order_id) for one in events])
        for received in events:
            key = received.event.marketplace, received.event.order_id
            order = with_facts(orders[key], received.event)
            orders[key] = replace(order, traceparent=order.traceparent or received.envelope.traceparent)
        await self.desk.go_on(tx, list(orders.values()))

    async def note_parcels(self, events: Sequence[Received[DispatchEvent]], tx: Transaction) -> None:
        """Parcels as warehouses speak of them."""
        orders = await store.claim(tx, [(one.event.marketplace, one.event.order_id) for one in events])
        for received in events:
            event = received.event
            key = event.marketplace, event.order_id
            order = with_word(orders[key], event)
            orders[key] = replace(order, traceparent=_joined(order, received.envelope.traceparent))
            parcel = order.parcel(event.parcel_id)
            if isinstance(event, ParcelWithdrawn) and parcel is not None and parcel.stage in UNDER_WAY:
                await self._ask_about_withdrawn(tx, order, event)
        await self.desk.go_on(tx, list(orders.values()))

    async def _ask_about_withdrawn(self, tx: Transaction, order: Order, event: ParcelWithdrawn) -> None:
        await open_case(
            tx,
            "parcel-withdrawn-late",
            about=f"order/{order.key}",
            cause=hold_ref(order),
            marketplace=order.marketplace,
            shop=order.shop,
            facts={"parcel": event.parcel_id, "reason": event.reason or ""},
        )

    async def note_mappings(self, events: Sequence[Received[MappingSet | MappingRemoved]], tx: Transaction) -> None:
        """The carriers that people set; what waits for them goes on, in the order in which it left."""
        await mappings.keep(events, tx)
        words = {(one.event.marketplace, one.event.left) for one in events if one.event.kind == CARRIERS.kind}
        await close_found(tx, words)
        await store.call_up(tx, [f"mapping/{name}/{CARRIERS.kind}/{left}" for name, left in words], tx.time)
        await self.look_again(tx)

    async def look_again(self, tx: Transaction) -> int:
        """Decide anew on orders that were called up; how many, `AT_ONCE` at most."""
        keys = await store.called_up(tx, tx.time, limit=AT_ONCE)
        orders = await store.lock(tx, keys)
        await self.desk.go_on(tx, list(orders.values()))
        return len(keys)

    async def decide(self, received: Received[OperatorDecidedHold], tx: Transaction) -> None:
        """A person lets parcels go without tracking or be tried again, or has seen to them elsewhere."""
        event = received.event
        prefix, _, rest = event.about.partition(f"hold/{NOTIFIER}/")
        name, _, order_id = rest.partition("/")
        if event.service != NOTIFIER or prefix or not order_id:
            return
        key: Key = name, order_id
        order = (await store.lock(tx, [key])).get(key)
        if order is None:
            return
        for parcel in order.parcels:
            match parcel.held, event.approved:
                case "no-tracking", True:
                    parcel = replace(parcel, bare=True)
                case "refused-by-marketplace", True:
                    parcel = replace(parcel, held=None)
                case "refused-by-marketplace" | "not-in-order" | "sent-by-operator" | "order-cancelled", _:
                    stage = "left" if parcel.stage == "waiting" else parcel.stage
                    parcel = replace(parcel, held=None, stage=stage)
            order = with_parcel(order, parcel)
        await close_cases(
            tx, cause=hold_ref(order), outcome="settled-by-operator", by=event.by, explanation=event.reason
        )
        await self.desk.go_on(tx, [order])

    async def settle(self, received: Received[OperatorSettledObligation], tx: Transaction) -> None:
        """A person says what became of something we owe."""
        await settle_by_person({kind.name: kind for kind in self.desk.kinds}, received.event, tx)


async def close_found(tx: Transaction, words: set[tuple[str, str]]) -> None:
    """Close the questions about words whose carrier is known by now."""
    platforms = await store.platforms(tx, {name for name, _ in words})
    for name in sorted(platforms):
        lefts = [left for marketplace, left in sorted(words) if marketplace == name]
        mapped = await CARRIERS.find_all(tx, name, lefts)
        for left in lefts:
            if isinstance(resolve(left, mapped.get(left), platforms[name].carriers), Found):
                cause = f"mapping/{name}/{CARRIERS.kind}/{left}"
                await close_cases(tx, cause=cause, explanation="The carrier is known now.")


async def take_list(tx: Transaction, marketplace: str, platform: Platform, changed: str) -> list[str]:
    """Note what was read of a marketplace; the words in use that its list does not explain any more.

    They are asked about before the next parcel, and what was asked before is asked again with a list that has
    `changed`. What waited for the list, or for a carrier that is back, goes on.
    """
    # Orders are locked before their marketplace, here as everywhere.
    await store.call_up_all(tx, marketplace, tx.time)
    await store.keep_platform(tx, marketplace, platform)
    await close_cases(tx, about=list_ref(marketplace), code=LIST_UNKNOWN, explanation="The list was read.")
    mapped = await CARRIERS.all(tx, marketplace)
    used = await store.used(tx, marketplace, tx.time - IN_USE)
    prefix = f"mapping/{marketplace}/{CARRIERS.kind}/"
    asked = await tx.fetch(
        "SELECT cause FROM cases WHERE closed_at IS NULL AND code = ANY($1) AND cause LIKE $2",
        [UNMAPPED, GONE],
        f"{prefix}%",
    )
    words = {row["cause"].removeprefix(prefix) for row in asked}
    await close_found(tx, {(marketplace, left) for left in words | mapped.keys() | used.keys()})
    unknown = {
        left: found
        for left in sorted(words | mapped.keys() | used.keys())
        if isinstance(found := resolve(left, mapped.get(left), platform.carriers), Unknown)
    }
    if changed:
        for left in unknown:
            await close_cases(tx, cause=prefix + left, outcome="overtaken", explanation="Asked with the changed list.")
    gone = [left for left in unknown if left in mapped or left in used]
    for left in gone:
        code = unknown[left].gone or used.get(left)
        await ask_for_carrier(
            tx, GONE, marketplace, left, platform, gone=code, more={"changes of the list": changed} if changed else None
        )
    return gone


def _joined(order: Order, parcels: str | None) -> str | None:
    """The context in which an order's parcel goes on: its own, days after the order's, and linked to that.

    Where whoever speaks of the parcel keeps no trace, the order's goes on.
    """
    if parcels is None or order.traceparent is None or not is_sampled(parcels):
        return order.traceparent or parcels
    if parcels.split("-")[1] == order.traceparent.split("-")[1]:
        return parcels
    span = start_stage(
        "join parcel and order",
        parcels,
        SpanKind.INTERNAL,
        attributes={"bridge.order": order.key},
        links=[order.traceparent],
    )
    end_stage(span)
    return traceparent_of(span)
