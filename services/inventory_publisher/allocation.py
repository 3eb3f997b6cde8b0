"""How many units an offer shows: pure.

max(0, share x ATS - buffer - units on open marketplace orders), per pack, at most the cap. While the source of the ATS
is stale the buffer counts twice, but no offer falls to zero for that alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final

from msgspec import Meta, Struct

from shared.events.orders import OrderFacts, OrderLine

PERPETUAL_UNITS: Final = 999
"""What an offer without a cap shows of a product that is always available."""
MOST: Final = 1_000_000_000

DEAD_STATES: Final = frozenset({"REFUSED", "CANCELED"})
"""Orders and lines in these states will never be sent. In a state that nobody knows yet they still may: too little on
show is put right later, too much is sold twice."""
ENDED_STATES: Final = DEAD_STATES | {"CLOSED"}
"""States that an order does not leave."""
GONE_STATES: Final = frozenset({"SHIPPED", "TO_COLLECT", "RECEIVED", "CLOSED", "REFUNDED", "INCIDENT_OPEN"})
"""Those in these states have left the house, or were paid back before they did."""


class Terms(Struct, frozen=True, kw_only=True):
    """What holds for a shop: its settings, or the rule `stock` that people set instead."""

    buffer: Annotated[int, Meta(ge=0)] = 0
    """SFCC units of every product kept back."""
    cap: Annotated[int, Meta(ge=0)] | None = None
    """Most units of one offer that are shown."""
    allocation_percent: Annotated[int, Meta(ge=0, le=100)] = 100
    mass_zero_percent: Annotated[int, Meta(ge=1, le=100)] = 30
    mass_zero_units: Annotated[int, Meta(ge=1)] | None = None
    """Hold also when more units than this would fall to zero at once."""
    mass_zero_minutes: Annotated[int, Meta(ge=1)] = 10


@dataclass(frozen=True, slots=True)
class Stock:
    """What SFCC says of one product at the shop's place."""

    ats: Decimal
    perpetual: bool = False
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """The number and the rule that gave it."""

    quantity: int
    rule: str
    buffers: int = 1
    """How often the buffer is kept back."""


def shown(stock: Stock, terms: Terms, open_units: Decimal, pack: int, *, stale: bool = False) -> Shown:
    """What an offer of `pack` units shows; `stale` says that the source of its stock is."""
    if stock.removed:
        return Shown(0, "removed")
    if stock.perpetual:
        return Shown(PERPETUAL_UNITS if terms.cap is None else terms.cap, "perpetual")
    buffers = 2 if stale and terms.buffer else 1
    left = stock.ats * terms.allocation_percent / 100 - terms.buffer - open_units
    quantity = _packs(left, pack)
    if buffers == 2:
        quantity = max(_packs(left - terms.buffer, pack), min(1, quantity))
    if terms.cap is not None and quantity > terms.cap:
        return Shown(terms.cap, "cap", buffers)
    rule = "share - buffer - open" if buffers == 1 else "share - twice the buffer - open"
    return Shown(quantity, rule if pack == 1 else f"{rule}, per pack", buffers)


def _packs(units: Decimal, pack: int) -> int:
    return min(MOST, int(units // pack)) if units > 0 else 0


def lines_that_ask(order: OrderFacts, *, adopted: bool) -> Iterable[tuple[OrderLine, bool]]:
    """The lines of an order that SFCC's stock has to serve, or had to, and whether each has left.

    None of an adopted order, which SFCC had before us, nor of one that the operator ships from its own stock.
    """
    own = order.fulfillment_center_code in (None, "", "DEFAULT")
    if adopted or not own or order.state in DEAD_STATES:
        return ()
    return [
        (line, bool({order.state, line.state} & GONE_STATES)) for line in order.lines if line.state not in DEAD_STATES
    ]


def units_asked(units: Decimal, absorbed: Decimal) -> Decimal:
    """Units of one line that must be taken off the ATS, because the ATS as last read does not lack them yet.

    `absorbed` is what was reserved for the line before a read of the product that we have seen. A line that left before
    such a read asks for nothing, and nobody asks about it here.

    | the line            | not reserved, or not read since | reserved, and read since          |
    |---------------------|---------------------------------|-----------------------------------|
    | is still to be sent | all its units                   | those that were not reserved      |
    | left, not read yet  | all its units                   | those that were not reserved      |
    | left, read since    | none                            | none                              |

    The reservation of a line that has left stands until the shelf was counted, or the warehouse fulfilled it: either
    way the ATS that is read then lacks its units, and lacks them once.
    """
    return max(Decimal(0), units - absorbed)
