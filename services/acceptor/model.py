"""What the acceptor knows of an order, and what follows from what the marketplace shows of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from services.acceptor.decision import Line, Problem, ProofKind, Reservation, Wish, wishes
from shared.events.decisions import LineAnswer
from shared.events.orders import OrderFacts
from shared.money import Money

Stage = Literal["new", "open", "observed", "decided", "accepted", "refused", "timed-out", "left"]
"""`new`: not to be answered yet; `open`: to be answered; `observed`: somebody else answers while we look on;
`decided`: settled, but the marketplace has yet to show it; `left`: nothing of it is ours to answer."""

ENDED: tuple[Stage, ...] = ("refused", "timed-out", "left")

BEFORE = "STAGING"
WAITING = "WAITING_ACCEPTANCE"
TIMED_OUT = "ACCEPTANCE_TIMEOUT"
ACCEPTED = frozenset(
    {"WAITING_DEBIT", "WAITING_DEBIT_PAYMENT", "SHIPPING", "SHIPPED", "TO_COLLECT", "RECEIVED", "CLOSED"}
)
GONE = frozenset({"SHIPPED", "TO_COLLECT", "RECEIVED", "CLOSED"})
"""Orders and lines in these states have left the warehouse."""
DEAD = frozenset({"REFUSED", "CANCELED"})
LONGEST = timedelta(days=30)
"""OCI's own limit for reservations of orders that never come: for so long one waits for the shelf to be counted."""


class Product(Struct, frozen=True):
    """What an offer sells."""

    product_id: str
    pack: int = 1


class Decided(Struct, frozen=True, kw_only=True):
    """What was settled, by whom and on which proof."""

    lines: tuple[LineAnswer, ...]
    by: Literal["rules", "cliff-policy", "operator"]
    proof: ProofKind
    at: datetime
    sent_at: datetime | None = None
    """When Mirakl took it."""


class Known(Struct, frozen=True, kw_only=True):
    """An order as it stands here."""

    facts: OrderFacts
    version: int = 0
    stage: Stage = "new"
    started_at: datetime | None = None
    due_at: datetime | None = None
    at_risk: Money | None = None
    """What it was worth while it could be accepted: a refused order shows nothing any more."""
    rung: int = 0
    """Steps of the alert ladder that have been climbed."""
    reservation: Reservation = Reservation()
    problems: tuple[Problem, ...] = ()
    answer: Decided | None = None
    whole_only: bool = False
    refused: str | None = None
    answered_by: Literal["us", "marketplace"] | None = None
    promised: bool = False
    """It was accepted on ATS alone, and OCI holds nothing for it yet."""
    asked: bool = False
    """A case about it was opened and may still be open."""
    short: bool = False
    """It was accepted, but SFCC has less than it needs: a case is open."""
    taken_over: bool = False
    """SFCC's own order lowered the stock, or OCI has closed the document: the reservation has done its part."""
    gone: dict[str, datetime] = {}
    """When each line left the warehouse, of those that have."""
    traceparent: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Marketplace and Mirakl order id."""
        return self.facts.marketplace, self.facts.order_id


def lines_of(order: Known, products: Mapping[str, Product]) -> tuple[Line, ...]:
    """The lines of which something is left, with what they sell. Mirakl lowers a line's quantity by what is cancelled
    of it: what it shows is what is left."""
    return tuple(
        Line(
            line_id=line.line_id,
            shop_sku=line.shop_sku,
            quantity=line.quantity,
            product_id=found.product_id if (found := products.get(line.shop_sku)) else None,
            pack=found.pack if found else 1,
        )
        for line in order.facts.lines
        if line.state not in DEAD and line.quantity > 0
    )


def see_gone(order: Known) -> Known:
    """The order with the moment at which each line left; what has left once stays so, whatever becomes of it then.

    A refunded line, or one with an incident, has left if its order has.
    """
    facts = order.facts
    gone = {
        line.line_id: line.shipped_at or facts.last_updated_at
        for line in facts.lines
        if line.state in GONE or (facts.state in GONE and line.state not in DEAD)
    }
    return replace(order, gone=gone | order.gone) if gone.keys() - order.gone.keys() else order


def lacking(order: Known) -> tuple[Wish, ...]:
    """What OCI does not hold of what is still to be sent."""
    return tuple(wish for wish in order.reservation.lacking if wish.line_id not in order.gone)


def waits_for_count(order: Known, wish: Wish, counted: Mapping[str, datetime], now: datetime) -> bool:
    """Whether a line that has left is still on hand for SFCC, so that only its reservation keeps it from being sold.

    On hand falls when the shelf is counted after the parcel left (`counted`: OCI's effectiveDate per product). What
    nobody counts is let go after OCI's own limit.
    """
    left_at = order.gone[wish.line_id]
    counted_at = counted.get(wish.product_id)
    return (counted_at is None or counted_at <= left_at) and now < left_at + LONGEST


def wanted_after(
    order: Known, products: Mapping[str, Product], counted: Mapping[str, datetime], now: datetime
) -> tuple[Wish, ...]:
    """What an accepted order wants of SFCC's stock: its accepted lines, until the shelf is counted without them.

    A line goes on wanting the product that was reserved for it, whatever its SKU is mapped to afterwards. One that has
    left wants only what is held, or was asked for, already.
    """
    if order.taken_over:
        return ()
    refused = {line.line_id for line in order.answer.lines if not line.accepted} if order.answer else set[str]()
    dropped = {line.line_id for line in order.facts.lines if line.state == "REFUNDED"}
    reserved = {wish.line_id: wish for wish in order.reservation.wanted}
    kept = [
        wish
        for wish in order.reservation.wanted
        if wish.line_id in order.gone
        and order.reservation.state in ("asked", "held")
        and waits_for_count(order, wish, counted, now)
    ]
    to_send = []
    for line in lines_of(order, products):
        if line.line_id not in refused | dropped | order.gone.keys():
            wish = reserved.get(line.line_id)
            to_send.append(replace(line, product_id=wish.product_id, pack=wish.pack) if wish is not None else line)
    return tuple(sorted((*kept, *wishes(to_send))))


def release_reason(order: Known) -> str:
    """Why an order wants no stock any more."""
    if order.facts.state == "CANCELED":
        return "cancelled"
    return {"refused": "refused", "timed-out": "timed-out", "left": "cancelled"}.get(order.stage, "fulfilled")


def line_answers(order: Known, states: Mapping[str, str]) -> tuple[LineAnswer, ...]:
    """The answer to every line as the marketplace shows it, with our own reason where there is one."""
    ours = {line.line_id: line for line in order.answer.lines} if order.answer else {}
    answers = []
    for line in order.facts.lines:
        accepted = states.get(line.line_id, line.state) not in DEAD
        said = ours.get(line.line_id)
        if said is None or said.accepted != accepted:
            reason = "accepted-by-marketplace" if accepted else "refused-by-marketplace"
            said = LineAnswer(
                line_id=line.line_id,
                accepted=accepted,
                reason=reason,
                product_id=line.product_id,
                quantity=line.quantity,
            )
        answers.append(said)
    return tuple(answers)


def timed_out(order_reason: str | None, line_reasons: Iterable[str | None]) -> bool:
    """Whether a refusal was the marketplace's own, because nobody answered in time."""
    return TIMED_OUT in {order_reason, *line_reasons}
