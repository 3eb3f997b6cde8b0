"""What an offer is to cost, and the full set of prices that says so; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple


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
