"""Every topic: what it is about, its key, who writes it, who reads it, how long, and its events.

The single registry of topic names and wire types: Kafka's set-up, the consumers, the schemas and the
documents are made from it.

All topics have `cleanup.policy=delete`; none is compacted, because a relay that stopped and woke may
repeat old records, and compaction would keep the stale one. "For ever" is small: orders are few.

Partition counts are fixed: more partitions would move keys, so that means a new topic and a replay.
A topic has `BUSY` partitions where flash sales and back-fills must spread over processes (one process
per core, up to twelve replicas; 12 also divides by 2, 3, 4 and 6, so work stays even), `CALM` where
people or daily runs set the pace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal

from shared.events import cases, catalog, control, dead_letters, decisions, finance, orders, shipments, stock
from shared.events.base import Event

BUSY: Final = 12
CALM: Final = 3

CATALOG: Final = "catalog-publisher"
INVENTORY: Final = "inventory-publisher"
INGESTOR: Final = "order-ingestor"
ACCEPTOR: Final = "acceptor"
NOTIFIER: Final = "shipment-notifier"
LEDGER: Final = "finance-ledger"
CONTROL_ROOM: Final = "control-room"

SERVICES: Final = (CATALOG, INVENTORY, INGESTOR, ACCEPTOR, NOTIFIER, LEDGER, CONTROL_ROOM)
ALL: Final = "all services"
"""Stands for every service where a topic has no single writer."""
ERP: Final = "an ERP"
"""A reader outside the product."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic and its promises."""

    name: str
    about: str
    key: str
    """The key in words; `Event.key` spells it."""
    writer: str
    """A service, or `ALL`."""
    readers: tuple[str, ...]
    """Services; `ERP` where somebody outside is expected to read along."""
    partitions: int
    retention: timedelta | None
    """None: for ever."""
    events: tuple[type[Event], ...]
    after_dead_letter: Literal["continue", "park"]
    """What becomes of the key after one dead letter: later records go on, or wait for a person."""
    outside_producers: bool = False
    """Whether others may write too; one authoritative source per key, by setting."""


TOPICS: Final = (
    Topic(
        name="stock-levels",
        about="What SFCC can still sell of a product at a place",
        key="SFCC product id",
        writer=INVENTORY,
        readers=(INVENTORY,),
        partitions=BUSY,
        retention=timedelta(days=7),
        events=(stock.StockLevelReported, stock.StockProductRemoved),
        # The next level replaces the broken one: waiting would only make stock older.
        after_dead_letter="continue",
        outside_producers=True,
    ),
    Topic(
        name="offer-stocks",
        about="The number each offer shows, the ATS behind it and how far it has come",
        key="marketplace, shop, shop SKU",
        writer=INVENTORY,
        readers=(ACCEPTOR, CONTROL_ROOM),
        partitions=BUSY,
        retention=timedelta(days=7),
        events=(
            stock.OfferStockComputed,
            stock.OfferStockHeld,
            stock.OfferStockSubmitted,
            stock.OfferStockConfirmed,
            stock.OfferStockRejected,
        ),
        # Each event carries the whole number, so the next one heals.
        after_dead_letter="continue",
    ),
    Topic(
        name="products",
        about="SFCC products and what marketplaces said to them",
        key="SFCC product id",
        writer=CATALOG,
        readers=(CONTROL_ROOM,),
        # A first run sends a whole catalogue, but its reader only shows it.
        partitions=6,
        retention=timedelta(days=30),
        events=(
            catalog.ProductChanged,
            catalog.ProductRemoved,
            catalog.ProductSubmitted,
            catalog.ProductPublished,
            catalog.ProductRejected,
        ),
        # Every change carries the whole product.
        after_dead_letter="continue",
    ),
    Topic(
        name="offers",
        about="Which offer sells which product, and the offer as the marketplace shows it",
        key="marketplace, shop, shop SKU",
        writer=CATALOG,
        readers=(INVENTORY, ACCEPTOR, INGESTOR, CONTROL_ROOM),
        partitions=BUSY,
        retention=timedelta(days=30),
        events=(
            catalog.OfferMapped,
            catalog.OfferUnmapped,
            catalog.OfferSubmitted,
            catalog.OfferPublished,
            catalog.OfferRejected,
            catalog.OfferRemoved,
        ),
        # Each fact is whole by itself and the next of its kind replaces it; a lost mapping shows as a
        # case on the order that needs it.
        after_dead_letter="continue",
    ),
    Topic(
        name="orders",
        about="What a marketplace sold and what became of it on both sides, without the buyer",
        key="marketplace, Mirakl order id",
        writer=INGESTOR,
        readers=(ACCEPTOR, INVENTORY, NOTIFIER, LEDGER, CONTROL_ROOM),
        partitions=BUSY,
        retention=None,
        events=(
            orders.OrderCaptured,
            orders.OrderChanged,
            orders.OrderCreatedInSfcc,
            orders.OrderLinked,
            orders.OrderCancelled,
            orders.OrderRefunded,
            orders.OrderReturned,
            orders.OrderIncidentOpened,
            orders.OrderIncidentClosed,
            orders.OrderMessageReceived,
        ),
        # An order read with a gap could be accepted twice over, shipped after its cancellation or
        # paid wrongly: the one order waits, all others flow.
        after_dead_letter="park",
    ),
    Topic(
        name="order-decisions",
        about="When each order must be answered, and how it was",
        key="marketplace, Mirakl order id",
        writer=ACCEPTOR,
        readers=(INGESTOR, INVENTORY, CONTROL_ROOM),
        partitions=BUSY,
        retention=None,
        events=(
            decisions.OrderDeadlineSet,
            decisions.OrderStockReserved,
            decisions.OrderReservationReleased,
            decisions.OrderDecided,
            decisions.OrderAccepted,
            decisions.OrderRefused,
            decisions.OrderTimedOut,
            decisions.OrderAnswerHeld,
        ),
        # A release without its reservation, or a refusal taken for open, changes stock and orders.
        after_dead_letter="park",
    ),
    Topic(
        name="dispatches",
        about="Parcels that left a warehouse, in the warehouse's words",
        key="marketplace, Mirakl order id",
        writer=NOTIFIER,
        readers=(NOTIFIER, CONTROL_ROOM),
        partitions=BUSY,
        retention=None,
        events=(shipments.ParcelDispatched, shipments.ParcelTracked, shipments.ParcelWithdrawn),
        # OR24 ships the whole order: with one parcel unread nobody knows whether it is complete.
        after_dead_letter="park",
        outside_producers=True,
    ),
    Topic(
        name="shipment-notices",
        about="Shipments the marketplace was told about, and those that wait",
        key="marketplace, Mirakl order id",
        writer=NOTIFIER,
        readers=(INGESTOR, LEDGER, CONTROL_ROOM),
        partitions=BUSY,
        retention=None,
        events=(shipments.ShipmentHeld, shipments.ShipmentAnnounced, shipments.ShipmentTrackingUpdated),
        # The SFCC order's shipping state is built from all of them.
        after_dead_letter="park",
    ),
    Topic(
        name="ledger-entries",
        about="Balanced entries for every marketplace transaction, and each order's net",
        key="marketplace, Mirakl order id; or billing cycle",
        writer=LEDGER,
        readers=(INGESTOR, CONTROL_ROOM, ERP),
        partitions=BUSY,  # A month's back-fill is a million lines.
        retention=None,
        events=(finance.LedgerEntryPosted, finance.OrderNetChanged),
        # Figures that lack one entry are wrong without looking wrong.
        after_dead_letter="park",
    ),
    Topic(
        name="payouts",
        about="What each billing cycle paid and whether it is explained",
        key="marketplace, billing cycle",
        writer=LEDGER,
        readers=(CONTROL_ROOM, ERP),
        partitions=CALM,  # Three a month and shop.
        retention=None,
        events=(finance.PayoutReported, finance.PayoutReconciled),
        # As with entries: no gap may hide in money.
        after_dead_letter="park",
    ),
    Topic(
        name="mappings",
        about="SKU, carrier, attribute and account mappings that people set",
        key="marketplace, kind, left-hand value",
        writer=CONTROL_ROOM,
        readers=SERVICES,
        partitions=CALM,
        retention=None,
        events=(control.MappingSet, control.MappingRemoved),
        # Each event replaces the line; who corrects a mapping must not wait behind a broken one.
        after_dead_letter="continue",
    ),
    Topic(
        name="rules",
        about="Policies of marketplaces and shops that people set",
        key="marketplace, shop, rule",
        writer=CONTROL_ROOM,
        readers=SERVICES,
        partitions=CALM,
        retention=None,
        events=(control.RuleSet, control.RuleRemoved),
        # Each event replaces the rule.
        after_dead_letter="continue",
    ),
    Topic(
        name="operator-actions",
        about="What people did to single objects",
        key="the object acted on",
        writer=CONTROL_ROOM,
        readers=SERVICES,
        partitions=CALM,
        retention=None,
        events=(
            control.OperatorAnsweredOrder,
            control.OperatorDecidedHold,
            control.OperatorPaused,
            control.OperatorResumed,
            control.OperatorSettledObligation,
            control.OperatorClosedCase,
            control.OperatorNotedCase,
            control.OperatorReplayedDeadLetter,
        ),
        # "Resume" after an unread "pause" would undo what a person meant.
        after_dead_letter="park",
    ),
    Topic(
        name="cases",
        about="Questions for people: opened, escalated, closed",
        key="case id",
        writer=ALL,
        readers=(CONTROL_ROOM,),
        partitions=6,  # Written by all, and many at once when a cause hits many orders.
        retention=None,
        events=(cases.CaseOpened, cases.CaseEscalated, cases.CaseClosed),
        # A case that cannot be shown must not keep its later closing from being read.
        after_dead_letter="continue",
    ),
    Topic(
        name="dead-letters",
        about="Records no retry can save: reason, origin and hash, never the bytes",
        key="origin: topic, partition, offset",
        writer=ALL,
        readers=(CONTROL_ROOM,),
        partitions=CALM,
        retention=timedelta(days=30),
        events=(
            dead_letters.RecordDeadLettered,
            dead_letters.DeadLetterReplayed,
            dead_letters.DeadLetterDiscarded,
        ),
        # A dead letter about a dead letter helps nobody: the next record of the origin is read.
        after_dead_letter="continue",
    ),
)

_BY_NAME: Final = {topic.name: topic for topic in TOPICS}
_BY_EVENT: Final = {event: topic for topic in TOPICS for event in topic.events}

EVENT_TYPES: Final[Mapping[str, type[Event]]] = MappingProxyType(
    {event.TYPE: event for topic in TOPICS for event in topic.events}
)
"""Every wire type this code can read."""


def topic(name: str) -> Topic:
    """The topic of that name. Raises KeyError that lists the names there are."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise KeyError(f"there is no topic {name!r}; the topics are {', '.join(_BY_NAME)}") from None


def topic_of(event_type: type[Event]) -> Topic:
    """The one topic that carries the event. Raises KeyError with the remedy."""
    try:
        return _BY_EVENT[event_type]
    except KeyError:
        raise KeyError(
            f"{event_type.__name__} belongs to no topic: add it to the events of one in shared/topics.py"
        ) from None
