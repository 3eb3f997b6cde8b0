"""Projectors: every event that people need to see becomes rows, whatever order it comes in and however often.

Events of cases and orders are kept as they are and folded again (`folds`), under the lock of their line;
offers, which are many and change all day, keep the newest fact by its sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from services.control_room.folds import Told, fold_case, fold_order
from shared import mappings, rules
from shared.codec import decode
from shared.database import Rows
from shared.events import cases, catalog, control, dead_letters, decisions, finance, orders, shipments, stock
from shared.events.base import Event
from shared.handlers import Handlers, Projector, Received, project, project_batch

E = TypeVar("E", bound=Event)

_CASE_EVENTS: Final[tuple[type[Event], ...]] = (cases.CaseOpened, cases.CaseEscalated, cases.CaseClosed)
_ORDER_EVENTS: Final[tuple[type[Event], ...]] = (
    *(orders.OrderCaptured, orders.OrderChanged, orders.OrderCreatedInSfcc, orders.OrderLinked),
    *(orders.OrderCancelled, orders.OrderRefunded, orders.OrderReturned, orders.OrderIncidentOpened),
    *(orders.OrderIncidentClosed, orders.OrderMessageReceived),
    *(decisions.OrderDeadlineSet, decisions.OrderStockReserved, decisions.OrderReservationReleased),
    *(decisions.OrderDecided, decisions.OrderAccepted, decisions.OrderRefused, decisions.OrderTimedOut),
    *(decisions.OrderAnswerHeld, shipments.ParcelDispatched, shipments.ParcelTracked, shipments.ParcelWithdrawn),
    *(shipments.ShipmentHeld, shipments.ShipmentAnnounced, shipments.ShipmentTrackingUpdated),
    finance.OrderNetChanged,
)


def handlers() -> Handlers:
    """Every topic but `stock-levels`, which says nothing that `offer-stocks` does not say better."""
    return Handlers(
        *(_state(event, keep_case_events) for event in _CASE_EVENTS),
        *(_state(event, keep_order_events) for event in _ORDER_EVENTS),
        _state(finance.LedgerEntryPosted, keep_ledger_entries),
        *(_state(event, keep_offer_stocks) for event in _STOCK_STATES),
        _state(catalog.OfferMapped, keep_offer_mappings),
        _state(catalog.OfferUnmapped, keep_offer_mappings),
        *(_state(event, keep_catalog_states) for event in _CATALOG_STATES),
        *(_state(event, keep_products) for event in (catalog.ProductChanged, catalog.ProductRemoved)),
        *(_state(event, keep_product_imports) for event in _IMPORT_STATES),
        project(finance.PayoutReported, keep_payout, "state"),
        project(finance.PayoutReconciled, keep_payout, "state"),
        project(dead_letters.RecordDeadLettered, keep_letter, "state"),
        project(dead_letters.DeadLetterReplayed, settle_letter, "state"),
        project(dead_letters.DeadLetterDiscarded, settle_letter, "state"),
        *mappings.PROJECTORS,
        *rules.PROJECTORS,
        *(project(event, keep_action, "state") for event in ACTIONS),
    )


def _state(event: type[E], apply: Callable[[Sequence[Received[Any]], Rows], Any]) -> Projector[E]:
    return project_batch(event, apply, "state")


def as_json(value: object) -> str:
    """A value as PostgreSQL's jsonb takes it."""
    return msgspec.json.encode(value).decode()


# Cases ----------------------------------------------------------------------------------------------


async def keep_case_events(events: Sequence[Received[Any]], rows: Rows) -> None:
    """Keep what happened to cases and fold their lines again."""
    await _keep_for_cases([(received.event.case_id, received) for received in events], rows)


async def _keep_for_cases(named: Sequence[tuple[str, Received[Any]]], rows: Rows) -> None:
    ids = sorted({case_id for case_id, _ in named})
    await rows.execute("INSERT INTO room_cases (case_id) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING", ids)
    await rows.fetch("SELECT 1 FROM room_cases WHERE case_id = ANY($1) ORDER BY case_id FOR UPDATE", ids)
    await rows.execute(
        """INSERT INTO room_case_events (case_id, source, id, type, sequence, at, payload, traceparent)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[],
                                $7::jsonb[], $8::text[])
           ON CONFLICT DO NOTHING""",
        [case_id for case_id, _ in named],
        *_columns([received for _, received in named]),
    )
    told: dict[str, list[Told]] = {case_id: [] for case_id in ids}
    for row in await rows.fetch("SELECT * FROM room_case_events WHERE case_id = ANY($1)", ids):
        told[row["case_id"]].append(_told(row["type"], row["payload"], row["sequence"], row["at"]))
    for case_id in ids:
        case = fold_case(told[case_id])
        risk = case.money_at_risk
        await rows.execute(
            """UPDATE room_cases SET code = $2, service = $3, about = $4, title = $5, what_to_do = $6, owner_team = $7,
                      severity = $8, rank = $9, opened_at = $10, due_at = $11, risk = $12, risk_currency = $13,
                      marketplace = $14, shop = $15, cause = $16, facts = $17, step = $18, taken_by = $19,
                      is_open = $20, closed_at = $21, outcome = $22, explanation = $23, closed_by = $24
               WHERE case_id = $1""",
            *(case_id, case.code, case.service, case.about, case.title, case.what_to_do, case.owner_team),
            *(case.severity, case.rank, case.opened_at, case.due_at),
            *(risk and risk.amount, risk and risk.currency, case.marketplace, case.shop, case.cause),
            *(as_json(case.facts), case.step, case.taken_by, case.is_open),
            *(case.closed_at, case.outcome, case.explanation, case.closed_by),
        )


# Orders ---------------------------------------------------------------------------------------------


async def keep_order_events(events: Sequence[Received[Any]], rows: Rows) -> None:
    """Keep what happened to orders and fold their lines again."""
    named = [((received.event.marketplace, received.event.order_id), received) for received in events]
    keys = sorted({key for key, _ in named})
    columns = [key[0] for key in keys], [key[1] for key in keys]
    await rows.execute(
        """INSERT INTO room_orders (marketplace, order_id) SELECT * FROM unnest($1::text[], $2::text[])
           ON CONFLICT DO NOTHING""",
        *columns,
    )
    await rows.fetch(
        """SELECT 1 FROM room_orders WHERE (marketplace, order_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
           ORDER BY marketplace, order_id FOR UPDATE""",
        *columns,
    )
    await rows.execute(
        """INSERT INTO room_order_events (marketplace, order_id, source, id, type, sequence, at, payload, traceparent)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[],
                                $7::timestamptz[], $8::jsonb[], $9::text[])
           ON CONFLICT DO NOTHING""",
        [key[0] for key, _ in named],
        [key[1] for key, _ in named],
        *_columns(events),
    )
    told: dict[tuple[str, str], list[Told]] = {key: [] for key in keys}
    for row in await rows.fetch(
        """SELECT e.* FROM unnest($1::text[], $2::text[]) AS k(marketplace, order_id)
           JOIN room_order_events AS e USING (marketplace, order_id)""",
        *columns,
    ):
        told[row["marketplace"], row["order_id"]].append(_told(row["type"], row["payload"], row["sequence"], row["at"]))
    lines = []
    for key in keys:
        order = fold_order(told[key])
        lines.append(
            (
                *(*key, order.shop, order.commercial_id, order.state, order.stage, order.answer, order.problem),
                *(order.created_at, order.captured_at, order.answered_at, order.due_at, order.ship_by),
                *(order.shipped_at, order.total and order.total.currency, order.total and order.total.amount),
                *(order.net and order.net.amount, order.sfcc_order_no, order.sfcc_at),
                *(len(order.parcels), len(order.announced), len(order.held), order.last_at),
            )
        )
    await rows.execute(
        """UPDATE room_orders AS o SET shop = n.shop, commercial_id = n.commercial_id, state = n.state, stage = n.stage,
                  answer = n.answer, problem = n.problem, created_at = n.created_at, captured_at = n.captured_at,
                  answered_at = n.answered_at, due_at = n.due_at, ship_by = n.ship_by, shipped_at = n.shipped_at,
                  currency = n.currency, total = n.total, net = n.net, sfcc_order_no = n.sfcc_order_no,
                  sfcc_at = n.sfcc_at, parcels = n.parcels, announced = n.announced, held = n.held,
                  last_at = n.last_at
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                       $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[],
                       $13::timestamptz[], $14::timestamptz[], $15::text[], $16::numeric[], $17::numeric[],
                       $18::text[], $19::timestamptz[], $20::int[], $21::int[], $22::int[], $23::timestamptz[])
                AS n(marketplace, order_id, shop, commercial_id, state, stage, answer, problem, created_at,
                     captured_at, answered_at, due_at, ship_by, shipped_at, currency, total, net, sfcc_order_no,
                     sfcc_at, parcels, announced, held, last_at)
           WHERE o.marketplace = n.marketplace AND o.order_id = n.order_id""",
        *(list(column) for column in zip(*lines, strict=True)),
    )


async def keep_ledger_entries(events: Sequence[Received[finance.LedgerEntryPosted]], rows: Rows) -> None:
    """An order's entries stand in its timeline; those in suspense wait for finance."""
    of_orders = [received for received in events if received.event.order_id is not None]
    if of_orders:
        await keep_order_events(of_orders, rows)
    for received in events:
        entry = received.event
        if entry.suspense:
            amount = entry.postings[0].amount
            await rows.execute(
                """INSERT INTO room_suspense (marketplace, entry_id, shop, type, order_id, amount, currency, booked_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING""",
                *(entry.marketplace, entry.entry_id, entry.shop, entry.transaction_type, entry.order_id),
                *(amount.amount, amount.currency, entry.booked_at),
            )
        if entry.reverses is not None:
            # A correction takes the entry out of suspense, whichever of the two is read first.
            await rows.execute(
                """INSERT INTO room_suspense (marketplace, entry_id, shop, type, amount, currency, booked_at, settled)
                   VALUES ($1, $2, $3, $4, 0, $5, $6, true)
                   ON CONFLICT (marketplace, entry_id) DO UPDATE SET settled = true""",
                *(entry.marketplace, entry.reverses, entry.shop, entry.transaction_type),
                *(entry.postings[0].amount.currency, entry.booked_at),
            )


# Offers and products --------------------------------------------------------------------------------

_STOCK_STATES: Final[dict[type[Event], str]] = {
    stock.OfferStockComputed: "computed",
    stock.OfferStockHeld: "held",
    stock.OfferStockSubmitted: "submitted",
    stock.OfferStockConfirmed: "confirmed",
    stock.OfferStockRejected: "rejected",
}
_CATALOG_STATES: Final[dict[type[Event], str]] = {
    catalog.OfferSubmitted: "submitted",
    catalog.OfferPublished: "published",
    catalog.OfferRejected: "rejected",
    catalog.OfferRemoved: "removed",
}
_IMPORT_STATES: Final[dict[type[Event], str]] = {
    catalog.ProductSubmitted: "submitted",
    catalog.ProductPublished: "published",
    catalog.ProductRejected: "rejected",
}


async def keep_offer_stocks(events: Sequence[Received[Any]], rows: Rows) -> None:
    """The newest fact about each offer's number; what an event does not tell stays."""
    lines = []
    for received in _newest(events):
        event = received.event
        confirmed = event if isinstance(event, stock.OfferStockConfirmed) else None
        submitted = event if isinstance(event, stock.OfferStockSubmitted) else None
        computed = event if isinstance(event, stock.OfferStockComputed) else None
        moment: datetime = _moment(event)
        note: str | None = getattr(event, "reason", None) or getattr(event, "guard", None)
        lines.append(
            (
                *(event.marketplace, event.shop, event.shop_sku, received.envelope.sequence),
                *(_STOCK_STATES[type(event)], event.quantity, getattr(event, "as_of", None), moment),
                *(getattr(event, "import_id", None), note, computed and as_json(computed)),
                submitted and submitted.submitted_at,
                *(confirmed.quantity if confirmed else getattr(event, "shown", None), confirmed and confirmed.as_of),
                *(confirmed and confirmed.confirmed_at, getattr(event, "case_id", None)),
            )
        )
    await rows.execute(
        """INSERT INTO room_offers AS o (marketplace, shop, shop_sku, stock_sequence, stock_state, quantity, as_of,
                                         stock_at, import_id, stock_note, computed, submitted_at, shown, shown_as_of,
                                         confirmed_at, hold_case)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::int[],
                                $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::jsonb[],
                                $12::timestamptz[], $13::int[], $14::timestamptz[], $15::timestamptz[], $16::text[])
           ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET
             stock_sequence = excluded.stock_sequence, stock_state = excluded.stock_state,
             quantity = excluded.quantity, as_of = coalesce(excluded.as_of, o.as_of), stock_at = excluded.stock_at,
             import_id = coalesce(excluded.import_id, o.import_id), stock_note = excluded.stock_note,
             computed = coalesce(excluded.computed, o.computed),
             submitted_at = coalesce(excluded.submitted_at, o.submitted_at),
             shown = coalesce(excluded.shown, o.shown), shown_as_of = coalesce(excluded.shown_as_of, o.shown_as_of),
             confirmed_at = coalesce(excluded.confirmed_at, o.confirmed_at), hold_case = excluded.hold_case
           WHERE o.stock_sequence < excluded.stock_sequence""",
        *(list(column) for column in zip(*lines, strict=True)),
    )


async def keep_offer_mappings(events: Sequence[Received[Any]], rows: Rows) -> None:
    """Which product an offer sells, newest first."""
    lines = []
    for received in _newest(events):
        event = received.event
        mapped = event if isinstance(event, catalog.OfferMapped) else None
        lines.append(
            (
                *(event.marketplace, event.shop, event.shop_sku, received.envelope.sequence),
                *(mapped and mapped.product_id, mapped and mapped.pack_quantity, mapped and mapped.mapped_by),
                _moment(event),
            )
        )
    await rows.execute(
        """INSERT INTO room_offers AS o (marketplace, shop, shop_sku, mapping_sequence, product_id, pack_quantity,
                                         mapped_by, mapped_at)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::int[], $7::text[],
                                $8::timestamptz[])
           ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET
             mapping_sequence = excluded.mapping_sequence, product_id = excluded.product_id,
             pack_quantity = excluded.pack_quantity, mapped_by = excluded.mapped_by, mapped_at = excluded.mapped_at
           WHERE o.mapping_sequence < excluded.mapping_sequence""",
        *(list(column) for column in zip(*lines, strict=True)),
    )


async def keep_catalog_states(events: Sequence[Received[Any]], rows: Rows) -> None:
    """Where each offer stands in its marketplace's catalogue."""
    lines = []
    for received in _newest(events):
        event = received.event
        note = getattr(event, "reason", None)
        if isinstance(event, catalog.OfferPublished) and not event.active:
            note = "inactive: " + (", ".join(event.inactivity_reasons) or "no reason given")
        lines.append(
            (
                *(event.marketplace, event.shop, event.shop_sku, received.envelope.sequence),
                *(_CATALOG_STATES[type(event)], note, _moment(event)),
            )
        )
    await rows.execute(
        """INSERT INTO room_offers AS o (marketplace, shop, shop_sku, catalog_sequence, catalog_state, catalog_note,
                                    catalog_at)
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                                $7::timestamptz[])
           ON CONFLICT (marketplace, shop, shop_sku) DO UPDATE SET
             catalog_sequence = excluded.catalog_sequence, catalog_state = excluded.catalog_state,
             catalog_note = excluded.catalog_note, catalog_at = excluded.catalog_at
           WHERE o.catalog_sequence < excluded.catalog_sequence""",
        *(list(column) for column in zip(*lines, strict=True)),
    )


async def keep_products(events: Sequence[Received[Any]], rows: Rows) -> None:
    """A product's name, for people who do not read ids."""
    lines = []
    for received in _newest(events):
        event = received.event
        changed = event if isinstance(event, catalog.ProductChanged) else None
        names = changed.names if changed else {}
        lines.append(
            (
                *(event.product_id, received.envelope.sequence),
                *(names.get("default") or next(iter(names.values()), None), changed and changed.online),
                *(changed.last_modified if changed else received.envelope.time, changed is None),
            )
        )
    await rows.execute(
        """INSERT INTO room_products AS p (product_id, sequence, name, online, changed_at, removed)
           SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bool[], $5::timestamptz[], $6::bool[])
           ON CONFLICT (product_id) DO UPDATE SET
             sequence = excluded.sequence, name = coalesce(excluded.name, p.name), online = excluded.online,
             changed_at = excluded.changed_at, removed = excluded.removed
           WHERE p.sequence < excluded.sequence""",
        *(list(column) for column in zip(*lines, strict=True)),
    )


async def keep_product_imports(events: Sequence[Received[Any]], rows: Rows) -> None:
    """What each marketplace said to each product."""
    for received in events:
        event = received.event
        await rows.execute(
            """INSERT INTO room_product_imports AS i (product_id, marketplace, shop, sequence, state, reasons, at)
               VALUES ($1, $2, $3, $4, $5, $6, $7)
               ON CONFLICT (product_id, marketplace, shop) DO UPDATE SET
                 sequence = excluded.sequence, state = excluded.state, reasons = excluded.reasons, at = excluded.at
               WHERE i.sequence < excluded.sequence""",
            *(event.product_id, event.marketplace, event.shop, received.envelope.sequence),
            *(_IMPORT_STATES[type(event)], list(getattr(event, "reasons", ())), _moment(event)),
        )


# Money ----------------------------------------------------------------------------------------------


async def keep_payout(received: Received[Any], rows: Rows) -> None:
    """What a billing cycle paid, and whether that is explained; the two are told by different events."""
    event = received.event
    part = "reconciled" if isinstance(event, finance.PayoutReconciled) else "reported"
    residual: Decimal | None = event.residual.amount if isinstance(event, finance.PayoutReconciled) else None
    closed_at = event.cycle_closed_at if isinstance(event, finance.PayoutReported) else None
    await rows.execute(
        f"""INSERT INTO room_payouts AS p (marketplace, billing_cycle, shop, {part}_sequence, {part}, residual,
                                      cycle_closed_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (marketplace, billing_cycle) DO UPDATE SET
              {part}_sequence = excluded.{part}_sequence, {part} = excluded.{part},
              residual = coalesce(excluded.residual, p.residual),
              cycle_closed_at = coalesce(excluded.cycle_closed_at, p.cycle_closed_at)
            WHERE p.{part}_sequence < excluded.{part}_sequence""",
        *(event.marketplace, event.billing_cycle, event.shop, received.envelope.sequence, as_json(event)),
        *(residual, closed_at),
    )


# Dead letters ---------------------------------------------------------------------------------------


async def keep_letter(received: Received[dead_letters.RecordDeadLettered], rows: Rows) -> None:
    """A record that no retry can save; one that was settled in the meantime stays settled."""
    letter = received.event
    await rows.execute(
        """INSERT INTO room_letters (topic, partition, "offset", consumer, reason, rule, field, event_type, event_id,
                                     sha256, size_bytes, dead_lettered_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
           ON CONFLICT (topic, partition, "offset", consumer) DO UPDATE SET
             reason = excluded.reason, rule = excluded.rule, field = excluded.field,
             event_type = excluded.event_type, event_id = excluded.event_id, sha256 = excluded.sha256,
             size_bytes = excluded.size_bytes, dead_lettered_at = excluded.dead_lettered_at""",
        *(letter.topic, letter.partition, letter.offset, letter.consumer, letter.reason, letter.rule, letter.field),
        *(letter.event_type, letter.event_id, letter.sha256, letter.size_bytes, letter.dead_lettered_at),
    )


async def settle_letter(received: Received[Any], rows: Rows) -> None:
    """It was handled after all, or a person decided that it is not needed."""
    event = received.event
    settled = "replayed" if isinstance(event, dead_letters.DeadLetterReplayed) else "discarded"
    at = event.replayed_at if isinstance(event, dead_letters.DeadLetterReplayed) else event.discarded_at
    await rows.execute(
        """INSERT INTO room_letters AS l (topic, partition, "offset", consumer, settled, settled_by, settled_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7)
           ON CONFLICT (topic, partition, "offset", consumer) DO UPDATE SET
             settled = excluded.settled, settled_by = excluded.settled_by, settled_at = excluded.settled_at
           WHERE l.settled_at IS NULL OR l.settled_at < excluded.settled_at""",
        *(event.topic, event.partition, event.offset, event.consumer, settled, event.by, at),
    )


# What people decided --------------------------------------------------------------------------------

ACTIONS: Final[tuple[type[control.OperatorAction], ...]] = (
    *(control.OperatorAnsweredOrder, control.OperatorDecidedHold, control.OperatorPaused, control.OperatorResumed),
    *(control.OperatorSettledObligation, control.OperatorClosedCase, control.OperatorNotedCase),
    control.OperatorReplayedDeadLetter,
)


async def keep_action(received: Received[Any], rows: Rows) -> None:
    """What a person did, and its place in the history of the case and of the order it was about."""
    event: control.OperatorAction = received.event
    await rows.execute(
        """INSERT INTO room_actions (about, version, type, by, at, reason, payload)
           VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING""",
        *(event.about, received.envelope.sequence, event.TYPE, event.by, event.at, event.reason, as_json(event)),
    )
    if case_id := getattr(event, "case_id", None):
        await _keep_for_cases([(case_id, received)], rows)
    if isinstance(event, control.OperatorAnsweredOrder):
        await keep_order_events([received], rows)


# Parts ----------------------------------------------------------------------------------------------


def _columns(events: Sequence[Received[Any]]) -> tuple[list[Any], ...]:
    """Source, id, type, sequence, time, payload and trace context of events, as arrays."""
    return (
        [e.envelope.source for e in events],
        [e.envelope.id for e in events],
        [e.envelope.type for e in events],
        [e.envelope.sequence for e in events],
        [e.envelope.time for e in events],
        [as_json(e.event) for e in events],
        [e.envelope.traceparent for e in events],
    )


def _told(wire_type: str, payload: str, sequence: int, at: datetime) -> Told:
    return Told(decode(wire_type, payload.encode()), sequence, at)


def _newest(events: Sequence[Received[Any]]) -> list[Received[Any]]:
    """One event per key, the one with the highest sequence, in the order of keys, as locks want it."""
    found: dict[str, Received[Any]] = {}
    for received in events:
        before = found.get(received.event.key)
        if before is None or before.envelope.sequence < received.envelope.sequence:
            found[received.event.key] = received
    return [found[key] for key in sorted(found)]


_MOMENTS: Final = (
    *("computed_at", "held_at", "submitted_at", "confirmed_at", "rejected_at"),
    *("mapped_at", "unmapped_at", "read_at", "noticed_at", "published_at"),
)


def _moment(event: Event) -> datetime:
    """When it happened: the one field that says so. Where several do, the later step comes first."""
    for name in ("confirmed_at", *_MOMENTS):
        if (at := getattr(event, name, None)) is not None:
            assert isinstance(at, datetime)  # the names above are moments in every event
            return at
    raise AssertionError(f"{event.TYPE} has no moment of its own: add its field's name to _MOMENTS")
