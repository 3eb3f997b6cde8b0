"""Pure: all events of one case, or of one order, become the one line that lists show.

Events may come in any order and more than once; the same set gives the same line. Within one set they
are read by their own time and sequence, never by when they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.events.base import Event
from shared.events.cases import CaseClosed, CaseEscalated, CaseOpened, Severity
from shared.events.control import OperatorNotedCase
from shared.events.decisions import (
    OrderAccepted,
    OrderAnswerHeld,
    OrderDeadlineSet,
    OrderDecided,
    OrderRefused,
    OrderTimedOut,
)
from shared.events.finance import LedgerEntryPosted, OrderNetChanged
from shared.events.orders import (
    OrderCancelled,
    OrderCaptured,
    OrderCreatedInSfcc,
    OrderFacts,
    OrderLine,
)
from shared.events.shipments import ParcelDispatched, ParcelWithdrawn, ShipmentAnnounced, ShipmentHeld
from shared.money import Money

RANKS: Final[Mapping[str, int]] = {"low": 1, "normal": 2, "high": 3, "critical": 4}
"""Severities from calm to loud."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event, with what its envelope says about its place among the others."""

    event: Event
    sequence: int
    at: datetime


@dataclass(slots=True)
class Case:
    """An exception case as it stands; one that was only closed or noted so far has no title."""

    code: str | None = None
    service: str | None = None
    about: str | None = None
    title: str | None = None
    what_to_do: str | None = None
    owner_team: str | None = None
    severity: Severity | None = None
    opened_at: datetime | None = None
    due_at: datetime | None = None
    money_at_risk: Money | None = None
    marketplace: str | None = None
    shop: str | None = None
    cause: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    step: str | None = None
    taken_by: str | None = None
    closed_at: datetime | None = None
    outcome: str | None = None
    explanation: str | None = None
    closed_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Somebody is asked and nobody has answered."""
        return self.opened_at is not None and self.closed_at is None

    @property
    def rank(self) -> int:
        """The severity as a number, for sorting."""
        return RANKS.get(self.severity or "", 0)


def fold_case(told: Iterable[Told]) -> Case:
    """The case that these events make; opened again after a close, it is open."""
    case = Case()
    for one in _in_order(told):
        match one.event:
            case CaseOpened() as opened:
                case.code, case.service, case.about = opened.code, opened.service, opened.about
                case.title, case.what_to_do, case.owner_team = opened.title, opened.what_to_do, opened.owner_team
                case.severity, case.opened_at, case.due_at = opened.severity, opened.opened_at, opened.due_at
                case.money_at_risk, case.cause, case.facts = opened.money_at_risk, opened.cause, opened.facts
                case.marketplace, case.shop, case.step = opened.marketplace, opened.shop, None
                case.closed_at = case.outcome = case.explanation = case.closed_by = None
            case CaseEscalated() as louder:
                case.severity, case.step = louder.severity, louder.step
                case.due_at = louder.due_at or case.due_at
                case.money_at_risk = louder.money_at_risk or case.money_at_risk
            case CaseClosed() as closed:
                case.code = case.code or closed.code
                case.closed_at, case.outcome = closed.closed_at, closed.outcome
                case.explanation, case.closed_by = closed.explanation, closed.by
            case OperatorNotedCase() as noted:
                case.taken_by = noted.by if noted.taken else case.taken_by
                case.owner_team = noted.owner_team or case.owner_team
            case _:
                pass  # Answers and decisions stand in the case's history; they do not change its line.
    return case


# Orders ---------------------------------------------------------------------------------------------

STAGES: Final = ("answer", "payment", "create", "ship", "money", "paid", "ended")
"""Where an order stands: to be answered, payment awaited, to be created in SFCC, to be shipped, money
awaited, in a billing cycle, or ended without a sale. `unknown` while its capture has not been read."""

_UNANSWERED: Final = frozenset({"STAGING", "WAITING_ACCEPTANCE"})
_UNPAID: Final = frozenset({"WAITING_DEBIT", "WAITING_DEBIT_PAYMENT"})
_SENT: Final = frozenset({"SHIPPED", "TO_COLLECT", "RECEIVED", "CLOSED"})
_ENDED: Final = frozenset({"REFUSED", "CANCELED"})


@dataclass(slots=True)
class Order:
    """An order across all stages, as far as the topics tell."""

    shop: str | None = None
    commercial_id: str | None = None
    state: str | None = None
    created_at: datetime | None = None
    captured_at: datetime | None = None
    ship_by: datetime | None = None
    total: Money | None = None
    lines: tuple[OrderLine, ...] = ()
    answer: str | None = None
    """`held`, `decided`, `accepted`, `refused`, `timed-out`; None while nothing was said."""
    hold_reason: str | None = None
    answered_at: datetime | None = None
    due_at: datetime | None = None
    sfcc_order_no: str | None = None
    site_id: str | None = None
    sfcc_at: datetime | None = None
    cancelled: bool = False
    parcels: set[str] = field(default_factory=set)
    announced: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    """Parcels that cannot be announced, with the reason."""
    complete: bool = False
    shipped_at: datetime | None = None
    net: Money | None = None
    cycles: set[str] = field(default_factory=set)
    last_at: datetime | None = None

    @property
    def is_sent(self) -> bool:
        """Nothing of it is left to ship."""
        return self.complete or self.state in _SENT

    @property
    def stage(self) -> str:
        """Whose turn it is; one of `STAGES`."""
        if self.state is None:
            return "unknown"
        if self.cancelled or self.state in _ENDED or self.answer in ("refused", "timed-out"):
            return "ended"
        if self.state in _UNANSWERED and self.answer != "accepted":
            return "answer"
        if not self.is_sent:
            if self.sfcc_order_no is not None:
                return "ship"
            return "payment" if self.state in _UNPAID | _UNANSWERED else "create"
        return "paid" if self.cycles else "money"

    @property
    def problem(self) -> str | None:
        """What keeps it from going on, in our own words; None while it flows."""
        if self.stage == "answer" and self.answer == "held":
            return self.hold_reason
        if self.stage == "ship" and self.held:
            return next(iter(sorted(self.held.values())))
        if self.answer == "timed-out":
            return "timed-out"
        return None


def fold_order(told: Iterable[Told]) -> Order:
    """The order that these events make."""
    events = _in_order(told)
    order = Order()
    for one in sorted(events, key=_version):
        if isinstance(facts := one.event, OrderFacts):
            order.shop, order.state, order.commercial_id = facts.shop, facts.state, facts.commercial_id
            order.created_at, order.ship_by = facts.created_at, facts.shipping_deadline
            order.total, order.lines = facts.total_price, facts.lines
    for one in events:
        order.last_at = max(order.last_at or one.at, one.at)
        match one.event:
            case OrderCaptured(captured_at=at):
                order.captured_at = min(order.captured_at or at, at)
            case OrderDeadlineSet(due_at=due):
                order.due_at = due
            case OrderAnswerHeld(reason=reason, due_at=due) if not _is_final(order.answer):
                order.answer, order.hold_reason, order.due_at = "held", reason, due
            case OrderDecided(due_at=due) if not _is_final(order.answer):
                order.answer, order.due_at = "decided", due
            case OrderAccepted(proven_at=at):
                order.answer, order.answered_at = "accepted", at
            case OrderRefused(proven_at=at):
                order.answer, order.answered_at = "refused", at
            case OrderTimedOut(noticed_at=at):
                order.answer, order.answered_at = "timed-out", at
            case OrderCreatedInSfcc() as created:
                order.sfcc_order_no, order.site_id, order.sfcc_at = (
                    created.sfcc_order_no,
                    created.site_id,
                    created.created_at,
                )
            case OrderCancelled(whole=True):
                order.cancelled = True
            case ParcelDispatched(parcel_id=parcel):
                order.parcels.add(parcel)
            case ParcelWithdrawn(parcel_id=parcel):
                order.parcels.discard(parcel)
                order.held.pop(parcel, None)
            case ShipmentHeld(parcel_id=parcel, reason=reason):
                order.held[parcel] = reason
            case ShipmentAnnounced() as announced:
                order.announced |= set(announced.parcel_ids)
                order.complete = order.complete or announced.order_complete
                order.shipped_at = announced.proven_at
            case OrderNetChanged(net=net):
                order.net = net
            case LedgerEntryPosted(billing_cycle=str(cycle)):
                order.cycles.add(cycle)
            case _:
                pass  # It stands in the timeline.
    order.held = {parcel: reason for parcel, reason in order.held.items() if parcel not in order.announced}
    return order


def _is_final(answer: str | None) -> bool:
    return answer in ("accepted", "refused", "timed-out")


def _in_order(told: Iterable[Told]) -> list[Told]:
    return sorted(told, key=lambda one: (one.at, one.sequence, one.event.TYPE))


def _version(one: Told) -> tuple[datetime, int]:
    """Mirakl's own version of an order first: a late event with an older one never replaces a newer."""
    return (one.event.last_updated_at if isinstance(one.event, OrderFacts) else one.at), one.sequence
