"""What an offer is to cost, and the full set of prices that says so; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec import structs

from shared.events.catalog import Price
from shared.money import Money


class BookEntry(NamedTuple):
    """One price of a product in a price book."""

    price_book_id: str
    quantity: Decimal
    amount: Decimal
    online_from: datetime | None
    online_to: datetime | None


def price_now(entries: Sequence[BookEntry], now: datetime) -> Decimal | None:
    """What one piece costs now: of the prices that hold, the one that began last; one without a beginning is oldest."""
    holding = [
        one
        for one in entries
        if one.quantity <= 1
        and (one.online_from is None or one.online_from <= now)
        and (one.online_to is None or now < one.online_to)
    ]
    begun = [one for one in holding if one.online_from is not None]
    if begun:
        return max(begun, key=lambda one: one.online_from or now).amount
    return holding[0].amount if holding else None


def full_set(current: Sequence[Price], price: Money) -> tuple[Price, ...]:
    """Every price the offer is to have: `price` as its default, all others as they are.

    A discount of the default price stays, unless it is no discount any more: Mirakl refuses one that is not below.
    """
    others = tuple(one for one in current if is_qualified(one))
    default = next((one for one in current if not is_qualified(one)), None)
    kept = Price(price=price)
    if default is not None and default.discount_price is not None and default.discount_price.amount < price.amount:
        kept = structs.replace(default, price=price)
    return (kept, *others)


def is_qualified(price: Price) -> bool:
    """Whether it holds for some channels or some time only."""
    return bool(price.channel_codes or price.start or price.end)
