"""What other services and people say, and what the orders that wait make of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from services.acceptor import store
from services.acceptor.judging import count_cause, mapping_cause, stock_cause, whole_answer
from services.acceptor.model import DEAD, Known
from services.acceptor.owing import Desk
from shared import mappings, rules
from shared.cases import close_by_person
from shared.database import Rows
from shared.events.catalog import OfferMapped, OfferUnmapped
from shared.events.control import MappingSet, OperatorAnsweredOrder, OperatorClosedCase, OperatorSettledObligation
from shared.events.decisions import OrderDecided
from shared.events.orders import OrderCaptured, OrderChanged, OrderCreatedInSfcc
from shared.events.stock import OfferStockComputed
from shared.handlers import Handlers, Received, project_batch, react, react_batch
from shared.obligations import Owed, owe_all, settle_by_person
from shared.outbox import Transaction

log = structlog.get_logger(__name__)


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
    await rows.execute(
        """INSERT INTO offer_products AS o (marketplace, shop, shop_sku, sequence, product_id, pack_quantity)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::int[])
           ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET sequence = excluded.sequence,
               product_id = excluded.product_id, pack_quantity = excluded.pack_quantity
           WHERE o.sequence < excluded.sequence""",
        *zip(*((*key, *values) for key, values in sorted(newest.items())), strict=True),
    )


def reference() -> Handlers:
    """What must be known before the first order is judged."""
    return Handlers(
        project_batch(OfferMapped, keep_products, "state"),
        project_batch(OfferUnmapped, drop_products, "state"),
        *mappings.PROJECTORS,
        *rules.PROJECTORS,
    )


async def keep_stocks(events: Sequence[Received[OfferStockComputed]], tx: Transaction) -> None:
    """Note what is said of offers' stock, and let orders that wait for it be looked at."""
    newest: dict[tuple[str, str, str], Received[OfferStockComputed]] = {}
    for one in events:
        key = one.event.marketplace, one.event.shop, one.event.shop_sku
        if key not in newest or newest[key].envelope.sequence < one.envelope.sequence:
            newest[key] = one
    counted = await tx.fetch(
        """WITH kept AS (
               INSERT INTO offer_stocks AS s (marketplace, shop, shop_sku, sequence, product_id, ats, as_of,
                                              computed_at, buffer, open_units, counted_at)
               SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::numeric[],
                                    $7::timestamptz[], $8::timestamptz[], $9::numeric[], $10::numeric[],
                                    $11::timestamptz[])
               ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET sequence = excluded.sequence,
                   product_id = excluded.product_id, ats = excluded.ats, as_of = excluded.as_of,
                   computed_at = excluded.computed_at, buffer = excluded.buffer, open_units = excluded.open_units,
                   counted_at = excluded.counted_at
               WHERE s.sequence < excluded.sequence RETURNING marketplace, shop, shop_sku, counted_at)
           SELECT k.marketplace, k.shop, k.shop_sku FROM kept AS k
           LEFT JOIN offer_stocks AS before USING (marketplace, shop, shop_sku)
           WHERE k.counted_at > coalesce(before.counted_at, '-infinity')""",
        *zip(
            *(
                (
                    *key,
                    one.envelope.sequence,
                    one.event.product_id,
                    one.event.ats,
                    one.event.as_of,
                    one.event.computed_at,
                    # A stale source's offers keep it back twice; whoever accepts on the figure doubles it himself.
                    one.event.buffer / 2 if one.event.degraded else one.event.buffer,
                    one.event.open_units,
                    one.event.counted_at,
                )
                for key, one in sorted(newest.items())
            ),
            strict=True,
        ),
    )
    causes = {stock_cause(*key) for key, one in newest.items() if one.event.ats > 0}
    causes |= {count_cause(row["marketplace"], row["shop"], row["shop_sku"]) for row in counted}
    await store.wake(tx, causes, tx.time)


def stocks() -> Handlers:
    """The stock of all offers, read apart: it is much, and orders do not wait behind it."""
    return Handlers(react_batch(OfferStockComputed, keep_stocks, "state"))


@dataclass(slots=True)
class Following:
    """The handlers that react."""

    desk: Desk

    def handlers(self) -> Handlers:
        """All of them."""
        return Handlers(
            react_batch(OrderCaptured, self.desk.judging.take_in),
            react_batch(OrderChanged, self.desk.judging.take_in),
            react(OrderCreatedInSfcc, self.note_created),
            react_batch(OfferMapped, self.go_on_with_product, "state"),
            react_batch(MappingSet, self.go_on_with_mapping, "state"),
            react(OperatorAnsweredOrder, self.answer_for_person),
            react(OperatorSettledObligation, self.settle),
            react(OperatorClosedCase, close_by_person),
        )

    async def note_created(self, received: Received[OrderCreatedInSfcc], tx: Transaction) -> None:
        """Where SFCC's own order lowers the stock, the reservation has done its part."""
        event = received.event
        if event.stock_lowered_by == "oci":
            return
        order = await self._lock(tx, event.marketplace, event.order_id)
        if order is not None:
            await self.desk.judging.look(tx, [msgspec.structs.replace(order, taken_over=True)])

    async def go_on_with_product(self, events: Sequence[Received[OfferMapped]], tx: Transaction) -> None:
        """Orders that wait for these SKUs go on. The reference consumer may be behind: the product is kept first."""
        await keep_products(events, tx)
        await store.wake(tx, {mapping_cause(one.event.marketplace, one.event.shop_sku) for one in events}, tx.time)

    async def go_on_with_mapping(self, events: Sequence[Received[MappingSet]], tx: Transaction) -> None:
        """Orders that wait for these lines of the SKU table go on."""
        await mappings.keep(events, tx)
        skus = {mapping_cause(one.event.marketplace, one.event.left) for one in events if one.event.kind == "sku"}
        await store.wake(tx, skus, tx.time)

    async def answer_for_person(self, received: Received[OperatorAnsweredOrder], tx: Transaction) -> None:
        """A person settled the answer: it is sent if the order still waits for one."""
        event = received.event
        order = await self._lock(tx, event.marketplace, event.order_id)
        if order is None or order.stage != "open":
            log.info("answer_not_needed", marketplace=event.marketplace, stage=order.stage if order else "unknown")
            return
        answered = {line.line_id for line in event.lines}
        if any(line.line_id not in answered for line in order.facts.lines if line.state not in DEAD):
            # A guess at what was left out would be an answer that nobody gave.
            log.warning("answer_incomplete", marketplace=event.marketplace, count=len(answered))
            return
        owed: list[Owed] = []
        decided = OrderDecided(
            marketplace=event.marketplace,
            shop=order.facts.shop,
            order_id=event.order_id,
            lines=whole_answer(order, event.lines),
            decided_by="operator",
            proof="reservation" if order.reservation.complete else "none",
            operator=event.by,
            decided_at=tx.time,
            due_at=order.due_at or tx.time,
        )
        judging = self.desk.judging
        order = await judging.settle_answer(tx, order, decided, owed)
        await judging.look(tx, [order])
        await owe_all(tx, owed)

    async def settle(self, received: Received[OperatorSettledObligation], tx: Transaction) -> None:
        """A person says what became of something we owe."""
        kinds = self.desk.kinds
        known = {kind.name: kind for kind in (kinds.reserve, kinds.restate, kinds.release, kinds.answer)}
        await settle_by_person(known, received.event, tx)

    async def _lock(self, tx: Transaction, marketplace: str, order_id: str) -> Known | None:
        order = (await store.lock(tx, [(marketplace, order_id)])).get((marketplace, order_id))
        return order if order is not None and (marketplace, order.facts.shop) in self.desk.shops else None
