"""What people decide: mappings, rules, and actions on single objects.

Every event says who (an opaque id), when and why, and what was there before: together they are the
audit. All of it is kept for ever and read by the services that act on it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from shared.events.base import Event
from shared.events.decisions import LineAnswer
from shared.events.fields import (
    CaseId,
    Line,
    Marketplace,
    Moment,
    ObjectRef,
    Operator,
    OrderId,
    OurCode,
    Ref,
    ShopOrAll,
)
from shared.events.keys import mapping_key, order_key, record_key, rule_key

Extras = Annotated[
    dict[str, str],
    Meta(description="More that the kind needs, such as pack_quantity of a SKU or the name of a free carrier."),
]
Kind = Annotated[OurCode, Meta(description="Which table.", examples=["sku", "carrier", "attribute", "account"])]
Left = Annotated[str, Meta(min_length=1, max_length=300, description="The value to be mapped, normalised.")]
RuleValue = str | int | bool | None | tuple[str | int, ...]
RuleSettings = Annotated[
    dict[str, RuleValue],
    Meta(description="The rule's settings by name; decimals as strings, units in the names."),
]


class MappingEvent(Event, frozen=True, kw_only=True):
    """One line of a mapping table."""

    marketplace: Marketplace
    kind: Kind
    left: Left
    by: Operator
    at: Moment
    reason: Line | None = None

    @property
    def key(self) -> str:
        return mapping_key(self.marketplace, self.kind, self.left)


class MappingSet(MappingEvent, frozen=True, kw_only=True):
    """The value is mapped to this from now on; everything that waited for it goes on."""

    TYPE: ClassVar[str] = "mapping.set.v1"

    right: Annotated[str, Meta(min_length=1, max_length=1000, description="What it is mapped to.")]
    extras: Extras = field(default_factory=dict)
    old_right: Annotated[str | None, Meta(description="What was there before.")] = None
    old_extras: Extras = field(default_factory=dict)


class MappingRemoved(MappingEvent, frozen=True, kw_only=True):
    """The value is mapped to nothing any more."""

    TYPE: ClassVar[str] = "mapping.removed.v1"

    old_right: str
    old_extras: Extras = field(default_factory=dict)


class RuleEvent(Event, frozen=True, kw_only=True):
    """One rule of a shop, or of all shops of a marketplace."""

    marketplace: Marketplace
    shop: ShopOrAll
    rule: Annotated[OurCode, Meta(description="The rule's name.", examples=["acceptance-deadline", "stock-buffer"])]
    by: Operator
    at: Moment
    reason: Line | None = None

    @property
    def key(self) -> str:
        return rule_key(self.marketplace, self.shop, self.rule)


class RuleSet(RuleEvent, frozen=True, kw_only=True):
    """The rule holds from now on."""

    TYPE: ClassVar[str] = "rule.set.v1"

    settings: RuleSettings
    old_settings: Annotated[dict[str, RuleValue] | None, Meta(description="What held before.")] = None


class RuleRemoved(RuleEvent, frozen=True, kw_only=True):
    """The rule no longer holds: the one for all shops, or the default, does."""

    TYPE: ClassVar[str] = "rule.removed.v1"

    old_settings: dict[str, RuleValue]


class OperatorAction(Event, frozen=True, kw_only=True):
    """What a person did in the control room; `about` is the object acted on and the key."""

    about: ObjectRef
    by: Operator
    role: Literal["operations", "finance", "admin"]
    at: Moment
    reason: Line | None = None

    @property
    def key(self) -> str:
        return self.about


class OperatorAnsweredOrder(OperatorAction, frozen=True, kw_only=True):
    """A person settled what to answer to an order; acceptor acts on it."""

    TYPE: ClassVar[str] = "operator.answered-order.v1"

    marketplace: Marketplace
    order_id: OrderId
    lines: Annotated[tuple[LineAnswer, ...], Meta(min_length=1, max_length=1000)]
    case_id: CaseId | None = None

    def __post_init__(self) -> None:
        expected = "order/" + order_key(self.marketplace, self.order_id)
        if self.about != expected:
            raise ValueError(f"`about` {self.about!r} is another object than the order: write {expected!r}")


class OperatorDecidedHold(OperatorAction, frozen=True, kw_only=True):
    """A person approved or discarded what a guard held back."""

    TYPE: ClassVar[str] = "operator.decided-hold.v1"

    service: OurCode
    case_id: CaseId
    approved: bool


class OperatorPaused(OperatorAction, frozen=True, kw_only=True):
    """A stage, a shop or everything stands still; intake and clocks go on."""

    TYPE: ClassVar[str] = "operator.paused.v1"

    stage: Annotated[OurCode | None, Meta(description="The service, or all of them.")] = None
    marketplace: Marketplace | None = None
    shop: ShopOrAll = "*"
    until: Moment | None = None


class OperatorResumed(OperatorAction, frozen=True, kw_only=True):
    """What was paused goes on."""

    TYPE: ClassVar[str] = "operator.resumed.v1"

    stage: OurCode | None = None
    marketplace: Marketplace | None = None
    shop: ShopOrAll = "*"


class OperatorSettledObligation(OperatorAction, frozen=True, kw_only=True):
    """A person looked at the remote system and says what became of a call whose answer was lost."""

    TYPE: ClassVar[str] = "operator.settled-obligation.v1"

    service: OurCode
    obligation_id: Ref
    outcome: Annotated[
        Literal["happened", "did-not-happen", "give-up"],
        Meta(description="Closed as done, sent again, or closed as not done."),
    ]


class OperatorClosedCase(OperatorAction, frozen=True, kw_only=True):
    """A person closes a case that no event closes by itself, and says what became of it."""

    TYPE: ClassVar[str] = "operator.closed-case.v1"

    service: Annotated[OurCode, Meta(description="The one that opened it, and closes it.")]
    case_id: CaseId
    opened_at: Annotated[
        Moment, Meta(description="When the case was opened that the person saw; opened again since, it stays open.")
    ]
    explanation: Annotated[Line, Meta(description="What was found or done. Never with personal data.")]

    def __post_init__(self) -> None:
        expected = f"case/{self.case_id}"
        if self.about != expected:
            raise ValueError(f"`about` {self.about!r} is another object than the case: write {expected!r}")


class OperatorNotedCase(OperatorAction, frozen=True, kw_only=True):
    """A person took a case, gave it to another team, or wrote down what was found."""

    TYPE: ClassVar[str] = "operator.noted-case.v1"

    case_id: CaseId
    owner_team: OurCode | None = None
    taken: bool = False
    note: Annotated[str, Meta(max_length=2000, description="Never with personal data.")] | None = None


class OperatorReplayedDeadLetter(OperatorAction, frozen=True, kw_only=True):
    """A dead letter goes back to its own consumer, and to no other."""

    TYPE: ClassVar[str] = "operator.replayed-dead-letter.v1"

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]
    consumer: OurCode

    def __post_init__(self) -> None:
        expected = "dead-letter/" + record_key(self.topic, self.partition, self.offset)
        if self.about != expected:
            raise ValueError(f"`about` {self.about!r} is another object than the record: write {expected!r}")
