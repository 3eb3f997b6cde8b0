# ruff: noqa (frozen as it was released)
"""Decisions: how every order is answered before its deadline.

A decision is stored before Mirakl is called (`order.decided`), and only what Mirakl then shows closes
it (`order.accepted`, `order.refused`, `order.timed-out`).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from .fields import (
    CaseId,
    Code,
    Count,
    Line,
    LineId,
    Moment,
    Operator,
    OurCode,
    ProductId,
    Quantity,
    Ref,
    check_quantities,
)
from .orders import OrderEvent
from .money import Money


class LineAnswer(Struct, frozen=True, kw_only=True):
    """The answer to one line; OR21 wants one for every line of the order."""

    line_id: LineId
    accepted: bool
    reason: Annotated[
        OurCode, Meta(description="Why, in our words.", examples=["reserved", "ats-proven", "out-of-stock"])
    ]
    product_id: ProductId | None = None
    quantity: Annotated[Count, Meta(description="Units of the offer.")] = 0


class OrderDeadlineSet(OrderEvent, frozen=True, kw_only=True):
    """When the answer is due by the marketplace's rule; a later event of the order replaces it."""

    TYPE: ClassVar[str] = "order.deadline-set.v1"

    due_at: Moment
    started_at: Annotated[Moment, Meta(description="From when the rule counts.")]
    rule: Annotated[Line, Meta(description="The rule in words, with its calendar and zone.")]
    money_at_risk: Money | None = None


class OrderStockReserved(OrderEvent, frozen=True, kw_only=True):
    """OCI reserved stock for the order: it is subtracted by us until a later read has absorbed it."""

    TYPE: ClassVar[str] = "order.stock-reserved.v1"

    reservation_id: Ref
    lines: Annotated[tuple[ReservedLine, ...], Meta(min_length=1, max_length=1000)]
    complete: Annotated[bool, Meta(description="Everything asked for was reserved.")]
    answered_at: Annotated[Moment, Meta(description="When OCI's answer arrived; reads begun later include it.")]
    expires_at: Moment | None = None


class ReservedLine(Struct, frozen=True, kw_only=True):
    """What was asked for and what was reserved, in SFCC units."""

    line_id: LineId
    product_id: ProductId
    place: Ref
    wanted: Quantity
    reserved: Quantity

    def __post_init__(self) -> None:
        check_quantities(wanted=self.wanted, reserved=self.reserved)


class OrderReservationReleased(OrderEvent, frozen=True, kw_only=True):
    """The reservation is gone without a sale, or ended because SFCC's own order took its place."""

    TYPE: ClassVar[str] = "order.reservation-released.v1"

    reservation_id: Ref
    reason: Annotated[OurCode, Meta(examples=["refused", "cancelled", "expired", "fulfilled"])]
    released_at: Moment


class OrderDecided(OrderEvent, frozen=True, kw_only=True):
    """What to answer is settled and stored; the marketplace has yet to show it."""

    TYPE: ClassVar[str] = "order.decided.v1"

    lines: Annotated[tuple[LineAnswer, ...], Meta(min_length=1, max_length=1000)]
    decided_by: Annotated[Literal["rules", "cliff-policy", "operator"], Meta(description="Who settled it.")]
    proof: Annotated[
        Literal["reservation", "ats", "none"], Meta(description="How the stock of the accepted lines is proven.")
    ]
    ats_as_of: Annotated[Moment | None, Meta(description="Proof ats: the oldest level it rests on.")] = None
    operator: Operator | None = None
    decided_at: Moment
    due_at: Moment


class OrderAccepted(OrderEvent, frozen=True, kw_only=True):
    """Mirakl shows the order as accepted, wholly or for some lines."""

    TYPE: ClassVar[str] = "order.accepted.v1"

    lines: Annotated[tuple[LineAnswer, ...], Meta(min_length=1, max_length=1000)]
    accepted_by: Annotated[
        Literal["us", "marketplace"], Meta(description="Marketplace: it accepts for the shop, or somebody else did.")
    ] = "us"
    state: Annotated[Code, Meta(description="The order's state when it was proven.")]
    answered_at: Annotated[Moment | None, Meta(description="When our answer was sent.")] = None
    proven_at: Moment
    due_at: Moment | None = None


class OrderRefused(OrderEvent, frozen=True, kw_only=True):
    """Mirakl shows every line as refused. Some marketplaces zero the offer then, so stock goes out again."""

    TYPE: ClassVar[str] = "order.refused.v1"

    lines: Annotated[tuple[LineAnswer, ...], Meta(min_length=1, max_length=1000)]
    refused_by: Literal["us", "marketplace"] = "us"
    answered_at: Moment | None = None
    proven_at: Moment
    due_at: Moment | None = None


class OrderTimedOut(OrderEvent, frozen=True, kw_only=True):
    """Mirakl refused the order because nobody answered in time (ACCEPTANCE_TIMEOUT)."""

    TYPE: ClassVar[str] = "order.timed-out.v1"

    reason_code: Code
    due_at: Annotated[Moment | None, Meta(description="What we took for the deadline.")] = None
    noticed_at: Moment
    money_lost: Money | None = None


class OrderAnswerHeld(OrderEvent, frozen=True, kw_only=True):
    """The rules do not say what to answer: a person is asked while the clock runs."""

    TYPE: ClassVar[str] = "order.answer-held.v1"

    reason: Annotated[OurCode, Meta(examples=["unmapped-sku", "stale-stock", "price-guard", "unknown-state"])]
    case_id: CaseId
    due_at: Moment
    held_at: Moment
