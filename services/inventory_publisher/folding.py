"""What topics say, folded into rows in batches: the newest word counts, whatever the arrival order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from services.inventory_publisher.allocation import ENDED_STATES, lines_that_ask
from services.inventory_publisher.numbers import Numbers, OfferKey
from services.inventory_publisher.proving import line_case
from shared import mappings, rules
from shared.cases import close_by_person, close_cases
from shared.events.catalog import OfferMapped, OfferPublished, OfferRemoved, OfferSubmitted, OfferUnmapped
from shared.events.control import OperatorClosedCase, OperatorDecidedHold
from shared.events.decisions import OrderRefused, OrderReservationReleased, OrderStockReserved, OrderTimedOut
from shared.events.orders import OrderCaptured, OrderChanged, OrderEvent
from shared.events.stock import OfferEvent, StockLevelReported, StockProductRemoved
from shared.handlers import Handlers, Received, react, react_batch
from shared.outbox import Transaction
from shared.topics import INVENTORY

CREATES: Final = "OF24"
LEFT_KEPT: Final = timedelta(days=7)
"""Beyond any outage of SFCC that leaves stock unread, and any lag of one topic behind another."""
_SETTLED: Final = ("fulfilled",)
"""Why a reservation ends without its units coming back: on hand is lower without them, or SFCC's own order took its
place."""


def reference() -> Handlers:
    """What must be known before the first number is computed."""
    return Handlers(*mappings.PROJECTORS, *rules.PROJECTORS)


@dataclass(slots=True)
class Folding:
    """The handlers."""

    numbers: Numbers
    heard: dict[str, set[str]] = field(default_factory=dict)
    """The places that each source of stock levels has spoken of since somebody took note of it."""

    def handlers(self) -> Handlers:
        """All of them; types that share a function are handed over in one batch."""
        levels, offers, orders, decisions = (
            self.fold_levels,
            self.fold_offers,
            self.fold_orders,
            self.fold_decisions,
        )
        return Handlers(
            react_batch(StockLevelReported, levels, "state"),
            react_batch(StockProductRemoved, levels, "state"),
            react_batch(OfferMapped, offers, "state"),
            react_batch(OfferUnmapped, offers, "state"),
            react_batch(OfferSubmitted, offers, "state"),
            react_batch(OfferPublished, offers, "state"),
            react_batch(OfferRemoved, offers, "state"),
            react_batch(OrderCaptured, orders),
            react_batch(OrderChanged, orders),
            react_batch(OrderStockReserved, decisions),
            react_batch(OrderReservationReleased, decisions),
            react_batch(OrderRefused, decisions),
            react_batch(OrderTimedOut, decisions),
            react(OperatorDecidedHold, self.decide_hold),
            react(OperatorClosedCase, close_by_person),
        )

    # Stock --------------------------------------------------------------------------------------------

    async def fold_levels(
        self, events: Sequence[Received[StockLevelReported | StockProductRemoved]], tx: Transaction
    ) -> None:
        """Keep the newest level of each product and place, and compute the offers of those that are news."""
        newest: dict[tuple[str, str, str], Received[StockLevelReported | StockProductRemoved]] = {}
        for received in events:
            event = received.event
            self.heard.setdefault(received.envelope.source, set()).add(f"{event.place_kind}/{event.place}")
            key = event.product_id, event.place_kind, event.place
            known = newest.get(key)
            if known is None or _age(known) < _age(received):
                newest[key] = received
        rows = await tx.fetch(
            """INSERT INTO levels AS l (product_id, place_kind, place, as_of, sequence, ats, perpetual, removed,
                                        read_started_at, counted_at)
               SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[],
                                    $6::numeric[], $7::boolean[], $8::boolean[], $9::timestamptz[], $10::timestamptz[])
               ON CONFLICT (product_id, place_kind, place) DO UPDATE SET as_of = excluded.as_of,
                   sequence = excluded.sequence, ats = excluded.ats, perpetual = excluded.perpetual,
                   removed = excluded.removed, read_started_at = excluded.read_started_at,
                   counted_at = greatest(l.counted_at, excluded.counted_at)
               WHERE (l.as_of, l.sequence) < (excluded.as_of, excluded.sequence)
               RETURNING product_id, place, read_started_at""",
            *zip(*(_level(key, newest[key]) for key in sorted(newest)), strict=True),
        )
        if not rows:
            return
        read = [row for row in rows if row["read_started_at"] is not None]
        await tx.execute(
            """UPDATE reservations AS r SET absorbed = true
               FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS n(product_id, place, read_started_at)
               WHERE NOT r.absorbed AND (r.product_id, r.place) = (n.product_id, n.place)
                 AND r.answered_at < n.read_started_at""",
            [row["product_id"] for row in read],
            [row["place"] for row in read],
            [row["read_started_at"] for row in read],
        )
        causes = {key[0]: received for key, received in newest.items()}
        # Whatever SFCC says anew goes out, also a number that equals the one before.
        await self.numbers.of_products(tx, (row["product_id"] for row in rows), causes, again=True)

    # Offers -------------------------------------------------------------------------------------------

    async def fold_offers(self, events: Sequence[Received[OfferEvent]], tx: Transaction) -> None:
        """Keep which product each offer sells, and whether it is still being created at the marketplace."""
        told: dict[OfferKey, _Told] = {}
        for received in sorted(events, key=lambda one: one.envelope.sequence):
            told.setdefault(_key(received.event), _Told()).hear(received.event, received.envelope.sequence)
        keys = sorted(told)
        columns = list(zip(*keys, strict=True))
        await tx.execute(
            """INSERT INTO offers (marketplace, shop, shop_sku) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
               ON CONFLICT DO NOTHING""",
            *columns,
        )
        rows = await tx.fetch(
            """UPDATE offers AS o SET said = n.said,
                   product_id = CASE WHEN n.maps THEN n.product_id ELSE o.product_id END,
                   pack = CASE WHEN n.maps THEN n.pack ELSE o.pack END,
                   creating = coalesce(n.creating, o.creating)
               FROM (SELECT o.marketplace, o.shop, o.shop_sku, n.said, n.maps, n.product_id, n.pack, n.creating,
                            o.creating OR o.rejected AS waits
                     FROM offers AS o
                     JOIN unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::boolean[], $6::text[],
                                 $7::int[], $8::boolean[])
                          AS n(marketplace, shop, shop_sku, said, maps, product_id, pack, creating)
                         USING (marketplace, shop, shop_sku)
                     WHERE o.said < n.said ORDER BY marketplace, shop, shop_sku FOR UPDATE OF o) AS n
               WHERE (o.marketplace, o.shop, o.shop_sku) = (n.marketplace, n.shop, n.shop_sku)
               RETURNING o.marketplace, o.shop, o.shop_sku, n.maps, o.product_id, o.pack,
                         n.waits AND NOT o.creating AS there_now""",
            *zip(*((*key, *told[key].row()) for key in keys), strict=True),
        )
        mapped = [row for row in rows if row["maps"] and row["product_id"] is not None]
        left = [line_case(*_row_key(row)) for row in rows if row["product_id"] is None]
        if left:
            await close_cases(tx, case_ids=left, outcome="overtaken", explanation="The offer is not sold any more.")
        # Orders that came before anybody knew what they sell ask for stock from now on.
        waiting = await tx.fetch(
            """UPDATE order_lines AS l SET product_id = n.product_id, pack = n.pack
               FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[])
                    AS n(marketplace, shop, shop_sku, product_id, pack)
               WHERE l.product_id IS NULL
                 AND (l.marketplace, l.shop, l.shop_sku) = (n.marketplace, n.shop, n.shop_sku)
               RETURNING l.product_id""",
            [row["marketplace"] for row in mapped],
            [row["shop"] for row in mapped],
            [row["shop_sku"] for row in mapped],
            [row["product_id"] for row in mapped],
            [row["pack"] for row in mapped],
        )
        await self.numbers.of_products(tx, (row["product_id"] for row in waiting))
        # What the marketplace was just seen to have shows no stock there: its number goes out, new here or not.
        created = {_row_key(row) for row in rows if row["there_now"]}
        await self.numbers.of_offers(tx, created, again=True)
        await self.numbers.of_offers(tx, {_row_key(row) for row in mapped} - created, again=False)

    # Orders -------------------------------------------------------------------------------------------

    async def fold_orders(self, events: Sequence[Received[OrderCaptured | OrderChanged]], tx: Transaction) -> None:
        """Keep the lines that ask for stock; the newest version of each order replaces the older.

        A line that leaves is kept until it is old: what is read then shows that SFCC's stock lacks it. One that had
        left before we ever saw it asks for nothing.
        """
        newest = {received.event.key: received.event for received in events}
        ours = [one for one in newest.values() if (one.marketplace, one.shop) in self.numbers.shops]
        adopted = await self._adopted([received.event for received in events], tx)
        asking = [
            ((one.marketplace, one.order_id, line.line_id), (one.shop, line.shop_sku, line.product_id,
              line.pack_quantity, line.quantity), has_left)
            for one in ours
            for line, has_left in lines_that_ask(one, adopted=(one.marketplace, one.order_id) in adopted)
        ]  # fmt: skip
        gone = await tx.fetch(
            """DELETE FROM order_lines AS l
               USING unnest($1::text[], $2::text[]) AS n(marketplace, order_id)
               WHERE (l.marketplace, l.order_id) = (n.marketplace, n.order_id)
               RETURNING l.marketplace, l.order_id, l.line_id, l.product_id, l.gone_at""",
            [one.marketplace for one in ours],
            [one.order_id for one in ours],
        )
        left_at = {(row["marketplace"], row["order_id"], row["line_id"]): row["gone_at"] for row in gone}
        kept = [
            (*key, *said, (left_at[key] or tx.time) if has_left else None)
            for key, said, has_left in asking
            if not has_left or key in left_at
        ]
        rows = await tx.fetch(
            """INSERT INTO order_lines (marketplace, order_id, line_id, shop, shop_sku, product_id, pack, quantity,
                                        gone_at)
               SELECT n.marketplace, n.order_id, n.line_id, n.shop, n.shop_sku, coalesce(n.product_id, o.product_id),
                      CASE WHEN n.product_id IS NULL THEN coalesce(o.pack, 1) ELSE n.pack END, n.quantity, n.gone_at
               FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[],
                           $8::int[], $9::timestamptz[])
                    AS n(marketplace, order_id, line_id, shop, shop_sku, product_id, pack, quantity, gone_at)
               LEFT JOIN offers AS o USING (marketplace, shop, shop_sku)
               RETURNING product_id""",
            *(zip(*kept, strict=True) if kept else [[]] * 9),
        )
        products = {row["product_id"] for row in (*gone, *rows) if row["product_id"] is not None}
        await self.numbers.of_products(tx, products)
        # Some marketplaces zero an offer whose order is refused or cancelled: its stock goes out again.
        back = {
            OfferKey(one.marketplace, one.shop, line.shop_sku)
            for one in ours
            for line in one.lines
            if {one.state, line.state} & {"REFUSED", "CANCELED"}
        }
        await self.numbers.of_offers(tx, back, again=True)

    async def _adopted(self, orders: Sequence[OrderCaptured | OrderChanged], tx: Transaction) -> set[tuple[str, str]]:
        """Orders that SFCC had before us, by marketplace and id; noted from their capture to their end."""
        captured = [one for one in orders if isinstance(one, OrderCaptured) and one.captured_by == "adoption"]
        await tx.execute(
            """INSERT INTO adopted_orders SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING""",
            [one.marketplace for one in captured],
            [one.order_id for one in captured],
        )
        found = await tx.fetch(
            """SELECT marketplace, order_id FROM adopted_orders
               JOIN unnest($1::text[], $2::text[]) AS n(marketplace, order_id) USING (marketplace, order_id)""",
            [one.marketplace for one in orders],
            [one.order_id for one in orders],
        )
        adopted = {(row["marketplace"], row["order_id"]) for row in found}
        ended = [one for one in orders if one.state in ENDED_STATES and (one.marketplace, one.order_id) in adopted]
        if ended:
            # A line that left before it was ever kept asks for nothing: the note is not needed again.
            await tx.execute(
                """DELETE FROM adopted_orders AS a USING unnest($1::text[], $2::text[]) AS n(marketplace, order_id)
                   WHERE (a.marketplace, a.order_id) = (n.marketplace, n.order_id)""",
                [one.marketplace for one in ended],
                [one.order_id for one in ended],
            )
        return adopted

    async def fold_decisions(self, events: Sequence[Received[OrderEvent]], tx: Transaction) -> None:
        """Keep what is reserved in OCI, in the order of the events: a later one of an order undoes an earlier."""
        products: set[str] = set()
        back: set[OfferKey] = set()
        for received in events:
            match received.event:
                case OrderStockReserved() as event:
                    products |= await self._reserve(event, tx)
                case OrderReservationReleased() as event if event.reason not in _SETTLED:
                    products |= await self._release(event, tx)
                case OrderRefused() | OrderTimedOut() as event:
                    back |= await self._give_back(event, tx)
        await self.numbers.of_products(tx, products)
        await self.numbers.of_offers(tx, back, again=True)

    async def _reserve(self, event: OrderStockReserved, tx: Transaction) -> set[str]:
        """The document as it stands now. What it held before and still holds stays absorbed; what it lacks is free."""
        dropped = await tx.fetch(
            """DELETE FROM reservations AS r WHERE (marketplace, order_id) = ($1, $2) AND NOT EXISTS (
                   SELECT FROM unnest($3::text[], $4::text[]) AS n(line_id, place)
                   WHERE (n.line_id, n.place) = (r.line_id, r.place))
               RETURNING product_id""",
            event.marketplace,
            event.order_id,
            [line.line_id for line in event.lines],
            [line.place for line in event.lines],
        )
        await tx.execute(
            """INSERT INTO reservations AS r (marketplace, order_id, line_id, place, product_id, reserved, answered_at)
               SELECT $1, $2, line_id, place, product_id, reserved, $3
               FROM unnest($4::text[], $5::text[], $6::text[], $7::numeric[])
                    AS n(line_id, place, product_id, reserved)
               ON CONFLICT (marketplace, order_id, line_id, place) DO UPDATE SET product_id = excluded.product_id,
                   reserved = excluded.reserved, answered_at = excluded.answered_at,
                   absorbed = r.absorbed AND r.product_id = excluded.product_id AND r.reserved >= excluded.reserved""",
            event.marketplace,
            event.order_id,
            event.answered_at,
            [line.line_id for line in event.lines],
            [line.place for line in event.lines],
            [line.product_id for line in event.lines],
            [line.reserved for line in event.lines],
        )
        # A read that started after the answer may have been seen already.
        await tx.execute(
            """UPDATE reservations AS r SET absorbed = true FROM levels AS l
               WHERE (r.marketplace, r.order_id) = ($1, $2) AND (l.product_id, l.place) = (r.product_id, r.place)
                 AND r.answered_at < l.read_started_at""",
            event.marketplace,
            event.order_id,
        )
        return {line.product_id for line in event.lines} | {row["product_id"] for row in dropped}

    async def _release(self, event: OrderReservationReleased, tx: Transaction) -> set[str]:
        rows = await tx.fetch(
            "DELETE FROM reservations WHERE (marketplace, order_id) = ($1, $2) RETURNING product_id",
            event.marketplace,
            event.order_id,
        )
        return {row["product_id"] for row in rows}

    async def _give_back(self, event: OrderRefused | OrderTimedOut, tx: Transaction) -> set[OfferKey]:
        rows = await tx.fetch(
            """DELETE FROM order_lines WHERE (marketplace, order_id) = ($1, $2)
               RETURNING marketplace, shop, shop_sku""",
            event.marketplace,
            event.order_id,
        )
        return {_row_key(row) for row in rows}

    # People -------------------------------------------------------------------------------------------

    async def decide_hold(self, received: Received[OperatorDecidedHold], tx: Transaction) -> None:
        """A person lets go out what the guard held, or discards it."""
        event = received.event
        if event.service == INVENTORY:
            await self.numbers.decide_hold(tx, event.case_id, approved=event.approved, by=event.by)


async def forget_old_lines(tx: Transaction) -> None:
    """Throw away lines that left long ago, and reservations of orders of which nothing is left."""
    await tx.execute("DELETE FROM order_lines WHERE gone_at < $1", tx.time - LEFT_KEPT)
    await tx.execute(
        """DELETE FROM reservations AS r WHERE answered_at < $1 AND NOT EXISTS (
               SELECT FROM order_lines AS l
               WHERE (l.marketplace, l.order_id, l.line_id) = (r.marketplace, r.order_id, r.line_id))""",
        tx.time - LEFT_KEPT,
    )


class _Told:
    """What a batch says of one offer."""

    def __init__(self) -> None:
        self.said = 0
        self.maps = False
        self.product_id: str | None = None
        self.pack = 1
        self.creating: bool | None = None

    def hear(self, event: OfferEvent, sequence: int) -> None:
        self.said = sequence
        match event:
            case OfferMapped():
                self.maps, self.product_id, self.pack = True, event.product_id, event.pack_quantity
            case OfferUnmapped() | OfferRemoved():
                self.maps, self.product_id, self.pack = True, None, 1
            case OfferSubmitted() if event.operation == CREATES:
                self.creating = True
            case OfferPublished():
                self.creating = False

    def row(self) -> tuple[int, bool, str | None, int, bool | None]:
        return self.said, self.maps, self.product_id, self.pack, self.creating


def _key(event: OfferEvent) -> OfferKey:
    return OfferKey(event.marketplace, event.shop, event.shop_sku)


def _row_key(row: Mapping[str, Any]) -> OfferKey:
    return OfferKey(row["marketplace"], row["shop"], row["shop_sku"])


def _age(received: Received[StockLevelReported | StockProductRemoved]) -> tuple[datetime, int]:
    return received.event.as_of, received.envelope.sequence


def _level(
    key: tuple[str, str, str], received: Received[StockLevelReported | StockProductRemoved]
) -> tuple[object, ...]:
    event = received.event
    match event:
        case StockLevelReported():
            said: tuple[object, ...] = event.ats, event.perpetual, False, event.read_started_at, event.counted_at
        case StockProductRemoved():
            said = Decimal(0), False, True, None, None
    return (*key, event.as_of, received.envelope.sequence, *said)
