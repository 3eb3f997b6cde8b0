"""Exception cases: business questions the rules do not answer, and obligations in danger.

A case wakes the business. What fixes its cause closes all it caused; a person closes only what no
event can.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from shared.events.base import Event
from shared.events.fields import CaseId, Line, Marketplace, Moment, ObjectRef, Operator, OurCode, Shop, Text
from shared.money import Money

Severity = Literal["low", "normal", "high", "critical"]
Team = Annotated[OurCode, Meta(description="Who owns it.", examples=["operations", "finance", "catalogue"])]
CaseCode = Annotated[OurCode, Meta(description="Its entry in the operator handbook.", examples=["unmapped-sku"])]


class CaseEvent(Event, frozen=True, kw_only=True):
    """One case."""

    case_id: CaseId
    code: CaseCode

    @property
    def key(self) -> str:
        return self.case_id


class CaseOpened(CaseEvent, frozen=True, kw_only=True):
    """A person is asked: what about, whose turn, until when, what is at stake, what to do."""

    TYPE: ClassVar[str] = "case.opened.v1"

    service: OurCode
    about: ObjectRef
    title: Line
    what_to_do: Text
    owner_team: Team
    severity: Severity = "normal"
    opened_at: Moment
    due_at: Moment | None = None
    money_at_risk: Money | None = None
    marketplace: Marketplace | None = None
    shop: Shop | None = None
    cause: Annotated[
        ObjectRef | None,
        Meta(description="What several cases share, such as a missing mapping: putting it right closes them all."),
    ] = None
    facts: Annotated[
        dict[str, Text], Meta(description="What a person needs to decide, by name. Never personal data.")
    ] = field(default_factory=dict)


class CaseEscalated(CaseEvent, frozen=True, kw_only=True):
    """Time passed or more is at stake: the case is announced again, louder."""

    TYPE: ClassVar[str] = "case.escalated.v1"

    severity: Severity
    step: Annotated[OurCode, Meta(description="Rung of the alert ladder.", examples=["50-percent", "last-20-minutes"])]
    due_at: Moment | None = None
    money_at_risk: Money | None = None
    escalated_at: Moment


class CaseClosed(CaseEvent, frozen=True, kw_only=True):
    """The question is answered or no longer asked."""

    TYPE: ClassVar[str] = "case.closed.v1"

    outcome: Annotated[
        Literal["cause-fixed", "settled-by-operator", "overtaken"],
        Meta(description="Overtaken: events made the question pointless."),
    ]
    explanation: Annotated[Line | None, Meta(description="What closed it.")] = None
    by: Operator | None = None
    closed_at: Moment
