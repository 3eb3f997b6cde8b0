"""What the marketplace is to be told of an order's parcels, and what keeps a parcel waiting: pure.

Where the platform lets an order have several shipments (PC01), each parcel is one (ST01). Elsewhere the order has
one tracking (OR23), and OR24 ships it whole: it waits until the parcels hold all that the buyer expects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from services.shipment_notifier.carriers import Found, Unknown, told, word
from services.shipment_notifier.model import UNDER_WAY, Line, Order, Parcel, Told
from shared.events.fields import LineUnits
from shared.events.orders import OrderFacts
from shared.events.shipments import DispatchedLine, DispatchEvent, ParcelDispatched, ParcelTracked, ParcelWithdrawn

CANCELLED: Final = frozenset({"CANCELED", "REFUSED"})
SHIPPED: Final = frozenset({"SHIPPED", "TO_COLLECT", "RECEIVED", "CLOSED"})
"""Mirakl shows the order, or a shipment, as sent."""
TRACKED: Final = frozenset({"SHIPPING", "SHIPPED", "TO_COLLECT"})
"""States in which an order or a shipment takes a tracking."""
OURS: Final = "DEFAULT"
"""The fulfilment centre of orders that the shop sends (OR11)."""

REFUSED: Final = "refused-by-marketplace"

Resolve = Callable[[str], Found | Unknown]
Operation = Literal["OR24", "ST01"]


class Announcement(Struct, frozen=True, kw_only=True):
    """Parcels that the marketplace is to be told of now. `told` is missing where they go without tracking."""

    operation: Operation
    parcel_ids: tuple[str, ...]
    units: tuple[LineUnits, ...]
    told: Told | None


class Correction(Struct, frozen=True, kw_only=True):
    """A tracking that the marketplace does not know yet, of a parcel that it was told of."""

    parcel_id: str
    told: Told
    shipment_id: str | None


class Hold(Struct, frozen=True, kw_only=True):
    """A parcel waits. `carrier` is the word that somebody has to map; `case` is the question for a person."""

    parcel_id: str
    reason: str
    carrier: str | None = None
    gone: str | None = None
    case: str | None = None


class Plan(Struct, frozen=True, kw_only=True):
    """What follows for an order now."""

    announcements: tuple[Announcement, ...] = ()
    corrections: tuple[Correction, ...] = ()
    holds: tuple[Hold, ...] = ()
    found: tuple[str, ...] = ()
    """Parcels that wait while the marketplace shows the whole order as shipped: somebody else announced them."""


# What is said of an order and its parcels ------------------------------------------------------------


def with_facts(order: Order, facts: OrderFacts) -> Order:
    """The order as the marketplace shows it now."""
    return replace(
        order,
        shop=facts.shop,
        state=facts.state,
        deadline=facts.shipping_deadline,
        by_operator=facts.fulfillment_center_code not in (None, OURS),
        lines=tuple(
            Line(
                line_id=line.line_id,
                shop_sku=line.shop_sku,
                quantity=line.quantity,
                state=line.state,
                product_id=line.product_id,
                pack=line.pack_quantity,
            )
            for line in facts.lines
        ),
    )


def with_word(order: Order, event: DispatchEvent) -> Order:
    """The order after a warehouse has spoken. What comes again changes nothing, and what was announced is not taken
    back; a tracking of a parcel that nobody dispatched says nothing."""
    known = order.parcel(event.parcel_id)
    match event:
        case ParcelDispatched():
            parcel = known or Parcel(parcel_id=event.parcel_id, dispatched_at=event.dispatched_at)
            lines = parcel.lines if parcel.stage in UNDER_WAY else event.lines
            parcel = replace(
                parcel,
                lines=lines,
                held=parcel.held if parcel.held != REFUSED or lines == parcel.lines else None,
                carrier=event.carrier or parcel.carrier,
                tracking_number=event.tracking_number or parcel.tracking_number,
                tracking_url=event.tracking_url or parcel.tracking_url,
                stage="waiting" if parcel.stage == "withdrawn" else parcel.stage,
            )
        case ParcelTracked() if known is not None:
            parcel = replace(
                known,
                carrier=event.carrier or known.carrier,
                tracking_number=event.tracking_number,
                tracking_url=event.tracking_url,
            )
        case ParcelWithdrawn() if known is not None and known.stage not in UNDER_WAY:
            parcel = replace(known, stage="withdrawn", held=None)
        case _:
            return order
    return with_parcel(order, parcel)


def with_parcel(order: Order, parcel: Parcel) -> Order:
    """The order with this parcel in its place, or as its last."""
    if order.parcel(parcel.parcel_id) is None:
        return replace(order, parcels=(*order.parcels, parcel))
    return replace(order, parcels=tuple(parcel if one.parcel_id == parcel.parcel_id else one for one in order.parcels))


# What of the order is in which parcel ----------------------------------------------------------------


class Contents(Struct, frozen=True, kw_only=True):
    """Units of the order per parcel, what no parcel holds yet in pieces per line, and parcels of strange contents."""

    units: Mapping[str, tuple[LineUnits, ...]]
    left: Mapping[str, int]
    strange: frozenset[str]

    @property
    def complete(self) -> bool:
        """The parcels hold all that the buyer expects."""
        return not any(self.left.values())


def contents(order: Order) -> Contents:
    """Share the order's lines out among its parcels, first those the marketplace was told of.

    A parcel that names a product counts its pieces, else units of the offer. Of a pack that is spread over parcels,
    the unit goes with the parcel that completes it. A parcel without lines holds all that is left.
    """
    lines = {line.line_id: line for line in order.lines if line.to_send}
    left = Counter({line_id: line.quantity * line.pack for line_id, line in lines.items()})
    units: dict[str, tuple[LineUnits, ...]] = {}
    strange: set[str] = set()
    for parcel in order.parcels:
        if parcel.stage in UNDER_WAY:
            units[parcel.parcel_id] = parcel.units
            for one in parcel.units:
                if one.line_id in lines:
                    left[one.line_id] = max(0, left[one.line_id] - one.quantity * lines[one.line_id].pack)
    for parcel in order.parcels:
        if parcel.stage != "waiting":
            continue
        before = Counter(left)
        if not parcel.lines:
            left = Counter(dict.fromkeys(left, 0))
        for wanted in parcel.lines:
            fitting = [line for line in lines.values() if _fits(wanted, line)]
            if not fitting and not any(_fits(wanted, line) for line in order.lines):
                strange.add(parcel.parcel_id)
            _take(wanted, fitting, left)
        units[parcel.parcel_id] = tuple(
            LineUnits(line_id=line.line_id, quantity=count)
            for line in lines.values()
            if (count := _sent(line, left) - _sent(line, before)) > 0
        )
    return Contents(units=units, left=left, strange=frozenset(strange))


def _fits(wanted: DispatchedLine, line: Line) -> bool:
    if wanted.line_id is not None:
        return wanted.line_id == line.line_id
    if wanted.shop_sku is not None:
        return wanted.shop_sku == line.shop_sku
    return wanted.product_id == line.product_id


def _take(wanted: DispatchedLine, fitting: list[Line], left: Counter[str]) -> None:
    in_pieces = wanted.product_id is not None
    rest = wanted.quantity
    for line in fitting:
        size = 1 if in_pieces else line.pack
        count = min(rest, left[line.line_id] // size)
        left[line.line_id] -= count * size
        rest -= count


def _sent(line: Line, left: Counter[str]) -> int:
    """Whole units that no longer are to be sent."""
    return (line.quantity * line.pack - left[line.line_id]) // line.pack


# What follows ----------------------------------------------------------------------------------------


def plan(order: Order, resolve: Resolve, several: bool | None) -> Plan:
    """What is to be sent now, and what waits for what. `several`: the platform lets an order have several
    shipments; None while nobody knows."""
    waiting = [parcel for parcel in order.parcels if parcel.stage == "waiting"]
    corrections, held = _corrections(order, resolve, bool(several))
    if not waiting:
        return Plan(corrections=corrections, holds=held)

    def all_held(reason: str, case: str | None = None) -> Plan:
        holds = tuple(Hold(parcel_id=one.parcel_id, reason=reason, case=case) for one in waiting)
        return Plan(corrections=corrections, holds=holds + held)

    if order.shop is None:
        return all_held("order-unknown")
    if several is None:
        return all_held("platform-unknown")
    if order.by_operator:
        return all_held("sent-by-operator", "parcel-not-expected")
    if order.state in CANCELLED:
        return all_held("order-cancelled", "parcel-of-cancelled-order")
    if order.state in SHIPPED:
        return Plan(corrections=corrections, holds=held, found=tuple(one.parcel_id for one in waiting))
    inside = contents(order)
    holds = {one.parcel_id: hold for one in waiting if (hold := _own_hold(one, inside, resolve)) is not None}
    if order.state != "SHIPPING":
        for one in waiting:
            holds.setdefault(one.parcel_id, Hold(parcel_id=one.parcel_id, reason="order-not-shipping"))
        announcements: tuple[Announcement, ...] = ()
    elif several:
        announcements = _each(order, waiting, inside, resolve, holds)
    else:
        announcements = _whole(order, waiting, inside, resolve, holds)
    return Plan(announcements=announcements, corrections=corrections, holds=(*holds.values(), *held))


def _own_hold(parcel: Parcel, inside: Contents, resolve: Resolve) -> Hold | None:
    """What is wrong with the parcel itself, whatever the others do."""
    if parcel.held == REFUSED and _told(parcel, resolve) == parcel.refused:
        return Hold(parcel_id=parcel.parcel_id, reason=REFUSED)
    if parcel.parcel_id in inside.strange:
        return Hold(parcel_id=parcel.parcel_id, reason="not-in-order", case="parcel-not-expected")
    if parcel.bare and not parcel.tracking_number:
        return None
    return _unmapped(parcel, resolve)


def _unmapped(parcel: Parcel, resolve: Resolve) -> Hold | None:
    left = word(parcel.carrier)
    found = resolve(left)
    if isinstance(found, Found) or (parcel.carrier is None and parcel.tracking_number is None):
        return None
    return Hold(
        parcel_id=parcel.parcel_id, reason="unmapped-carrier", carrier=left, gone=found.gone, case="carrier-unmapped"
    )


def _untracked(parcel: Parcel) -> Hold:
    return Hold(parcel_id=parcel.parcel_id, reason="no-tracking", case="shipment-without-tracking")


def _each(
    order: Order, waiting: list[Parcel], inside: Contents, resolve: Resolve, holds: dict[str, Hold]
) -> tuple[Announcement, ...]:
    found = []
    for parcel in waiting:
        if parcel.parcel_id in holds:
            continue
        units = inside.units[parcel.parcel_id]
        if not units:
            holds[parcel.parcel_id] = Hold(parcel_id=parcel.parcel_id, reason="nothing-left")
        elif parcel.tracking_number is None and not parcel.bare:
            holds[parcel.parcel_id] = _untracked(parcel)
        else:
            found.append(
                Announcement(operation="ST01", parcel_ids=(parcel.parcel_id,), units=units, told=_told(parcel, resolve))
            )
    return tuple(found)


def _whole(
    order: Order, waiting: list[Parcel], inside: Contents, resolve: Resolve, holds: dict[str, Hold]
) -> tuple[Announcement, ...]:
    """The order at once, or nothing of it: who waits for a neighbour says so."""
    lead = next((one for one in reversed(waiting) if one.tracking_number is not None), waiting[-1])
    if inside.complete and not holds:
        if lead.tracking_number is not None or lead.bare:
            every = Counter[str]()
            for parcel in waiting:
                every.update({one.line_id: one.quantity for one in inside.units[parcel.parcel_id]})
            units = tuple(LineUnits(line_id=line_id, quantity=count) for line_id, count in every.items())
            # The one whose tracking stands for the order is the first.
            ids = (lead.parcel_id, *(one.parcel_id for one in waiting if one is not lead))
            if units:
                return (Announcement(operation="OR24", parcel_ids=ids, units=units, told=_told(lead, resolve)),)
        else:
            holds[lead.parcel_id] = _untracked(lead)
    for parcel in waiting:
        holds.setdefault(parcel.parcel_id, Hold(parcel_id=parcel.parcel_id, reason="order-incomplete"))
    return ()


def _told(parcel: Parcel, resolve: Resolve) -> Told | None:
    """Nothing of a parcel without number: most carriers of the list demand one (SH21 `tracking_url`)."""
    found = resolve(word(parcel.carrier))
    if parcel.tracking_number is None or isinstance(found, Unknown):
        return None
    return told(found, parcel.tracking_number, parcel.tracking_url)


def _corrections(order: Order, resolve: Resolve, several: bool) -> tuple[tuple[Correction, ...], tuple[Hold, ...]]:
    """Trackings that came late or were put right by the warehouse, of parcels that the marketplace was told of.

    A carrier that is mapped to another one since changes nothing of what was told before.
    Where the order has one tracking only, it is that of the parcel which stood for it; one that went without gets
    the first that comes.
    """
    if order.state not in TRACKED:
        return (), ()
    corrections: list[Correction] = []
    holds: list[Hold] = []
    told_of = [one for one in order.parcels if one.stage in ("sent", "announced") and one.tracking_number is not None]
    if several:
        told_of = [one for one in told_of if one.shipment_id is not None]
    elif any(one.told is not None for one in order.parcels):
        told_of = [one for one in told_of if one.told is not None][:1]
    else:
        told_of = told_of[:1]
    for parcel in told_of:
        last = parcel.telling or parcel.told
        if last is not None and (last.tracking_number, parcel.told_as) == (
            parcel.tracking_number,
            word(parcel.carrier),
        ):
            continue
        hold, wanted = _unmapped(parcel, resolve), _told(parcel, resolve)
        if hold is not None:
            holds.append(hold)
        elif wanted is not None:
            corrections.append(Correction(parcel_id=parcel.parcel_id, told=wanted, shipment_id=parcel.shipment_id))
    return tuple(corrections), tuple(holds)
