"""The mass-zero guard: pure. An export that arrives empty or for the wrong list must not empty a shop.

It counts offers that would fall to zero because SFCC says so, never those that our own orders sold out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.inventory_publisher.allocation import Terms

FEWEST: Final = 3
"""Fewer falls than this are never a mass, however small the shop."""
BURST: Final = timedelta(minutes=1)
"""What follows a held fall so closely belongs to it; later ones are judged anew."""


@dataclass(frozen=True, slots=True)
class Falls:
    """Offers that fall to zero, and the units that they showed."""

    offers: int = 0
    units: int = 0

    def __add__(self, other: Falls) -> Falls:
        return Falls(self.offers + other.offers, self.units + other.units)


def is_mass(
    terms: Terms,
    on_show: int,
    let_through: Falls,
    falling: Falls,
    now: datetime,
    *,
    held_at: datetime | None = None,
    approved_until: datetime | None = None,
) -> bool:
    """Whether these falls are held.

    `on_show` is how many offers of the shop show stock, `let_through` what fell within the window. `held_at` is when
    the guard last held something that is still held; `approved_until` until when a person lets falls through.
    """
    if approved_until is not None and now < approved_until:
        return False
    if held_at is not None and now - held_at <= BURST:
        return True
    together = let_through + falling
    if together.offers < FEWEST:
        return False
    if terms.mass_zero_units is not None and together.units > terms.mass_zero_units:
        return True
    return together.offers * 100 > terms.mass_zero_percent * on_show


def window(terms: Terms) -> timedelta:
    """What counts as at once."""
    return timedelta(minutes=terms.mass_zero_minutes)
