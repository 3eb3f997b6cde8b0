"""What an offer is to cost, and the set of prices that says so."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.catalog_publisher.pricing import BookEntry, full_set, price_now
from shared.events.catalog import Price
from shared.money import Money

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def entry(amount: str, quantity: str = "1", start: int | None = None, end: int | None = None) -> BookEntry:
    """A price; `start` and `end` in days from now."""
    since = None if start is None else NOW + start * DAY
    until = None if end is None else NOW + end * DAY
    return BookEntry("eur", Decimal(quantity), Decimal(amount), since, until)


def euro(amount: str) -> Money:
    return Money(Decimal(amount), "EUR")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([entry("10"), entry("8", quantity="5")], "10"),
        ([entry("10"), entry("7", start=-2, end=2)], "7"),
        ([entry("7", start=-5), entry("6", start=-1), entry("10")], "6"),
        ([entry("10"), entry("7", start=1)], "10"),
        ([entry("7", start=-5, end=0)], None),
        ([], None),
    ],
    ids=[
        "one piece, not five",
        "a price for a time beats the one for always",
        "the one that began last",
        "a coming one does not count yet",
        "an ended one no more",
        "none",
    ],
)
def test_the_price_of_one_piece_now(entries: list[BookEntry], expected: str | None) -> None:
    assert price_now(entries, NOW) == (Decimal(expected) if expected else None)


def test_a_new_default_price_keeps_the_discount_and_every_price_of_a_channel() -> None:
    channel = Price(price=euro("22"), discount_price=euro("21"), channel_codes=("FR",))
    current = (Price(price=euro("20"), discount_price=euro("15"), discount_start=NOW), channel)
    assert full_set(current, euro("25")) == (
        Price(price=euro("25"), discount_price=euro("15"), discount_start=NOW),
        channel,
    )


def test_a_discount_that_is_none_any_more_is_left_out_since_mirakl_would_refuse_the_offer() -> None:
    current = (Price(price=euro("20"), discount_price=euro("15")),)
    assert full_set(current, euro("15")) == (Price(price=euro("15")),)


def test_an_offer_without_prices_gets_its_first() -> None:
    assert full_set((), euro("15")) == (Price(price=euro("15")),)
