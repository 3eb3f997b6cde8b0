"""What a newly read version of an order says that was not known: the events, in their order. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct

from services.order_ingestor.model import Known, Seen, Told
from shared.events.base import Event
from shared.events.orders import (
    CancelledLine,
    OrderCancelled,
    OrderCaptured,
    OrderChanged,
    OrderFacts,
    OrderIncidentClosed,
    OrderIncidentOpened,
    OrderLinked,
    OrderRefunded,
)
from shared.money import Money

CapturedBy = Literal["poll", "rescan", "backfill", "adoption"]

ENDED = frozenset({"CLOSED", "CANCELED", "REFUSED"})
"""States after which the marketplace changes nothing more."""
CALLED_OFF = frozenset({"CANCELED", "REFUSED"})
"""Nothing of the order will be sent."""
INCIDENT = "INCIDENT_OPEN"


class Followed(Struct, frozen=True, kw_only=True):
    """What follows from a version of an order."""

    events: tuple[Event, ...]
    told: Told
    linked: bool


def follow(known: Known | None, seen: Seen, now: datetime, by: CapturedBy) -> Followed | None:
    """What this version says that is news; nothing where it is the known one, or older.

    Mirakl's `last_updated_date` is the version. Of two that claim the same, the one that was read later by the
    marketplace's clock counts, so a page that comes late never takes anything back.
    """
    if known is not None:
        version, known_version = seen.facts.last_updated_at, known.facts.last_updated_at
        if version < known_version or (version == known_version and seen.read_at < known.read_at):
            return None
    events: list[Event] = []
    told = known.told if known is not None else Told()
    linked = known.linked if known is not None else False
    if known is None:
        events.append(OrderCaptured(**_fields(seen.facts), captured_at=now, captured_by=by))
    elif seen.facts != known.facts:
        events.append(
            OrderChanged(**_fields(seen.facts), read_at=seen.read_at, previous_state=known.facts.state or None)
        )
    events += _cancellations(seen, told, now)
    events += [refund for refund in seen.refunds if told.refunds.get(refund.refund_id) != refund.state]
    events += _incidents(seen, told, now)
    if known is not None and known.sfcc_order_no is not None and seen.reference == known.sfcc_order_no and not linked:
        events.append(OrderLinked(**_ids(seen.facts), sfcc_order_no=known.sfcc_order_no, linked_at=now))
        linked = True
    if not events:
        return None
    return Followed(events=tuple(events), told=_told(seen), linked=linked)


def _fields(facts: OrderFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in OrderFacts.__struct_fields__}


def _ids(facts: OrderFacts) -> dict[str, str]:
    return {"marketplace": facts.marketplace, "shop": facts.shop, "order_id": facts.order_id}


def _cancellations(seen: Seen, told: Told, now: datetime) -> Iterator[OrderCancelled]:
    """Parts that were cancelled, each once, and the whole order at most once."""
    facts = seen.facts
    whole = facts.state == "CANCELED" and not told.cancelled
    parts = [one for one in seen.cancelations if one.cancelation_id not in told.cancelations]
    named = {one.line.line_id for one in seen.cancelations}
    lines = [one.line for one in parts]
    lines += [
        CancelledLine(line_id=line.line_id, quantity=line.quantity, reason_code=line.state_reason_code)
        for line in facts.lines
        if line.state == "CANCELED" and line.line_id not in named and line.line_id not in told.cancelled_lines
    ]
    if lines or whole:
        yield OrderCancelled(
            **_ids(facts),
            whole=facts.state == "CANCELED",
            by="marketplace",
            reason_code=facts.state_reason_code,
            lines=tuple(lines),
            cancelled_at=max((one.created_at for one in parts if one.created_at), default=facts.last_updated_at),
        )


def _incidents(seen: Seen, told: Told, now: datetime) -> Iterator[OrderIncidentOpened | OrderIncidentClosed]:
    for line in seen.facts.lines:
        is_open, was_open = line.state == INCIDENT, line.line_id in told.incidents
        which = {**_ids(seen.facts), "line_id": line.line_id}
        if is_open and not was_open:
            yield OrderIncidentOpened(**which, reason_code=line.state_reason_code, opened_at=seen.facts.last_updated_at)
        elif was_open and not is_open:
            yield OrderIncidentClosed(**which, reason_code=line.state_reason_code, closed_at=seen.facts.last_updated_at)


def _told(seen: Seen) -> Told:
    return Told(
        refunds={refund.refund_id: refund.state for refund in seen.refunds},
        refunded=sum((refunded_by(refund, seen.facts.tax_mode) for refund in seen.refunds), Decimal(0)),
        cancelations=tuple(one.cancelation_id for one in seen.cancelations),
        cancelled_lines=tuple(line.line_id for line in seen.facts.lines if line.state == "CANCELED"),
        cancelled=seen.facts.state == "CANCELED",
        incidents=tuple(line.line_id for line in seen.facts.lines if line.state == INCIDENT),
    )


def refunded_by(refund: OrderRefunded, tax_mode: str) -> Decimal:
    """What the buyer got back with one refund, taxes included."""
    parts: list[Money | None] = [refund.amount, refund.shipping_amount, *(fee.amount for fee in refund.fees)]
    if tax_mode == "TAX_EXCLUDED":
        parts += [tax.amount for tax in (*refund.taxes, *refund.shipping_taxes)]
    return sum((part.amount for part in parts if part is not None), Decimal(0))
