"""What other services and people say, and what the order and its SFCC order make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from services.order_ingestor import store
from services.order_ingestor.capture import Intake, causes_of
from services.order_ingestor.creation import sku_cause
from services.order_ingestor.model import Known, Net, SfccState
from services.order_ingestor.owing import Desk
from shared import mappings
from shared.cases import close_by_person
from shared.database import Rows
from shared.events.catalog import OfferMapped, OfferUnmapped
from shared.events.control import MappingSet, OperatorClosedCase, OperatorSettledObligation
from shared.events.decisions import OrderAccepted
from shared.events.finance import OrderNetChanged
from shared.events.orders import OrderEvent
from shared.events.shipments import ShipmentAnnounced
from shared.handlers import Handlers, Received, project_batch, react, react_batch
from shared.obligations import owe_all, settle_by_person
from shared.outbox import Transaction

E = TypeVar("E", bound=OrderEvent)

_AT_ONCE = 500
"""Orders that one fix wakes in one transaction; each round wakes the next."""


async def keep_products(events: Sequence[Received[OfferMapped]], rows: Rows) -> None:
    """Note what offers sell; the newest word on each counts."""
    await _keep_products([(one.event, one.envelope.sequence, one.event.product_id) for one in events], rows)


async def drop_products(events: Sequence[Received[OfferUnmapped]], rows: Rows) -> None:
    """Nobody knows any more what these offers sell."""
    await _keep_products([(one.event, one.envelope.sequence, None) for one in events], rows)


async def _keep_products(said: Iterable[tuple[OfferMapped | OfferUnmapped, int, str | None]], rows: Rows) -> None:
    newest: dict[tuple[str, str, str], tuple[int, str | None, int]] = {}
    for event, sequence, product in said:
        key = event.marketplace, event.shop, event.shop_sku
        if key not in newest or newest[key][0] < sequence:
            newest[key] = sequence, product, event.pack_quantity if isinstance(event, OfferMapped) else 1
    lines = [(*key, *values) for key, values in sorted(newest.items())]
    await rows.execute(
        """INSERT INTO offer_products AS o (marketplace, shop, shop_sku, sequence, product_id, pack_quantity)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::int[])
           ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET sequence = excluded.sequence,
               product_id = excluded.product_id, pack_quantity = excluded.pack_quantity
           WHERE o.sequence < excluded.sequence""",
        *zip(*lines, strict=True),
    )


def reference() -> Handlers:
    """What must be known before the first order is judged."""
    return Handlers(
        project_batch(OfferMapped, keep_products, "state"),
        project_batch(OfferUnmapped, drop_products, "state"),
        *mappings.PROJECTORS,
    )


@dataclass(slots=True)
class Following:
    """The handlers that react."""

    intake: Intake
    desk: Desk

    def handlers(self) -> Handlers:
        """All of them."""
        return Handlers(
            react_batch(OfferMapped, self.go_on_with_product, "state"),
            react_batch(MappingSet, self.go_on_with_mapping, "state"),
            react(OrderAccepted, self.note_acceptance),
            react_batch(ShipmentAnnounced, self.show_shipments),
            react_batch(OrderNetChanged, self.show_nets),
            react(OperatorSettledObligation, self.settle),
            react(OperatorClosedCase, close_by_person),
        )

    async def go_on_with_product(self, events: Sequence[Received[OfferMapped]], tx: Transaction) -> None:
        """Orders that wait for these SKUs go on. The reference consumer may be behind: the product is kept first."""
        await keep_products(events, tx)
        await self._wake(tx, {sku_cause(one.event.marketplace, one.event.shop_sku) for one in events})

    async def go_on_with_mapping(self, events: Sequence[Received[MappingSet]], tx: Transaction) -> None:
        """Orders that wait for these lines of a mapping table go on."""
        await mappings.keep(events, tx)
        await self._wake(
            tx, {cause for one in events for cause in causes_of(one.event.marketplace, one.event.kind, one.event.left)}
        )

    async def _wake(self, tx: Transaction, causes: set[str]) -> None:
        if causes and (waiting := await store.waiting_for(tx, causes, limit=_AT_ONCE)):
            await self.intake.look_again(tx, waiting)

    async def note_acceptance(self, received: Received[OrderAccepted], tx: Transaction) -> None:
        """Where a shop wants its orders as soon as they are accepted, this is when."""
        event = received.event
        terms = self.intake.terms.get((event.marketplace, event.shop))
        if terms is not None and terms.create_when == "accepted":
            await self.intake.look_again(tx, [(event.marketplace, event.order_id)], accepted=True)

    async def show_shipments(self, events: Sequence[Received[ShipmentAnnounced]], tx: Transaction) -> None:
        """SFCC orders show that they were sent, wholly or in part."""

        def shown(event: ShipmentAnnounced, sfcc: SfccState) -> SfccState:
            done = event.order_complete or sfcc.shipping == "shipped"
            return msgspec.structs.replace(sfcc, shipping="shipped" if done else "part_shipped")

        await self._show(events, tx, shown)

    async def show_nets(self, events: Sequence[Received[OrderNetChanged]], tx: Transaction) -> None:
        """SFCC orders show what they bring now."""
        await self._show(events, tx, lambda event, sfcc: msgspec.structs.replace(sfcc, net=Net.of(event)))

    async def _show(
        self, events: Sequence[Received[E]], tx: Transaction, change: Callable[[E, SfccState], SfccState]
    ) -> None:
        before = await store.lock(tx, {(one.event.marketplace, one.event.order_id) for one in events})
        after = dict(before)
        for received in events:
            key = received.event.marketplace, received.event.order_id
            if key in after:
                sfcc = change(received.event, after[key].sfcc)
                after[key] = msgspec.structs.replace(after[key], sfcc=sfcc)
        changed = [order for key, order in after.items() if order != before[key]]
        await store.write(tx, changed)
        await owe_all(
            tx, [self.intake.owe_update(one) for one in changed if one.stage == "created" and self._is_live(one)]
        )

    def _is_live(self, order: Known) -> bool:
        terms = self.intake.terms.get((order.facts.marketplace, order.facts.shop))
        return terms is not None and terms.live

    async def settle(self, received: Received[OperatorSettledObligation], tx: Transaction) -> None:
        """A person says what became of something we owe."""
        kinds = self.desk.kinds
        known = {kind.name: kind for kind in (kinds.create, kinds.adopt, kinds.update, self.desk.link)}
        await settle_by_person(known, received.event, tx)
