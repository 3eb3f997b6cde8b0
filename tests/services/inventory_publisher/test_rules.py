"""The number an offer shows, which lines ask for stock, and when falls to zero are a mass: as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.inventory_publisher.allocation import Stock, Terms, lines_that_ask, shown, units_asked
from services.inventory_publisher.guard import Falls, is_mass
from services.inventory_publisher.reading import changed_at
from services.inventory_publisher.sources import is_stale
from shared.events.orders import OrderFacts, OrderLine
from shared.money import Money

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NOTHING = Money(Decimal(0), "EUR")


def order_facts(state: str, line_states: tuple[str, ...]) -> OrderFacts:
    """An order with a line of three pieces in each of these states."""
    return OrderFacts(
        marketplace="m",
        shop="1",
        order_id="O-1",
        commercial_id="O",
        state=state,
        created_at=NOON,
        last_updated_at=NOON,
        currency="EUR",
        tax_mode="TAX_INCLUDED",
        price=NOTHING,
        shipping_price=NOTHING,
        total_price=NOTHING,
        total_commission=NOTHING,
        lines=tuple(
            OrderLine(
                line_id=str(number),
                state=line_state,
                shop_sku="A",
                quantity=3,
                unit_price=NOTHING,
                price=NOTHING,
                shipping_price=NOTHING,
                total_price=NOTHING,
                commission_fee=NOTHING,
                total_commission=NOTHING,
            )
            for number, line_state in enumerate(line_states, 1)
        ),
    )


@pytest.mark.parametrize(
    ("ats", "terms", "asked", "pack", "quantity"),
    [
        ("10", Terms(), "0", 1, 10),
        ("10", Terms(buffer=2), "3", 1, 5),
        ("10", Terms(buffer=2), "9", 1, 0),
        ("-4", Terms(), "0", 1, 0),
        ("10.999", Terms(), "0", 1, 10),
        ("0.999", Terms(), "0", 1, 0),
        ("10", Terms(allocation_percent=50), "0", 1, 5),
        ("11", Terms(allocation_percent=50), "0", 1, 5),
        ("11", Terms(allocation_percent=0), "0", 1, 0),
        ("10", Terms(allocation_percent=50, buffer=1), "1", 1, 3),
        ("100", Terms(cap=7), "0", 1, 7),
        ("100", Terms(cap=0), "0", 1, 0),
        ("20", Terms(), "0", 6, 3),
        ("20", Terms(buffer=2), "1", 6, 2),
        ("5", Terms(), "0", 6, 0),
        ("100", Terms(cap=7), "0", 6, 7),
    ],
)
def test_an_offer_shows_its_share_less_buffer_and_open_units_per_pack_and_capped(
    ats: str, terms: Terms, asked: str, pack: int, quantity: int
) -> None:
    assert shown(Stock(Decimal(ats)), terms, Decimal(asked), pack).quantity == quantity


@pytest.mark.parametrize(
    ("reserved", "absorbed", "asked"),
    [(0, False, 3), (3, False, 3), (3, True, 0), (2, True, 1), (5, True, 0)],
)
def test_units_of_a_line_are_taken_off_until_the_stock_that_was_read_lacks_them(
    reserved: int, absorbed: bool, asked: int
) -> None:
    assert units_asked(Decimal(3), Decimal(reserved if absorbed else 0)) == asked


@pytest.mark.parametrize(
    ("order_state", "line_states", "asking"),
    [
        ("SHIPPING", ("SHIPPING", "REFUSED", "CANCELED"), {"1": False}),
        ("SHIPPING", ("SHIPPED", "SHIPPING", "REFUNDED"), {"1": True, "2": False, "3": True}),
        ("SHIPPED", ("SHIPPED", "INCIDENT_OPEN", "REFUSED"), {"1": True, "2": True}),
        ("CANCELED", ("SHIPPING", "CANCELED", "CANCELED"), {}),
        ("A_NEW_STATE", ("ANOTHER", "SHIPPED", "REFUSED"), {"1": False, "2": True}),
    ],
)
def test_lines_ask_for_stock_unless_they_will_never_be_sent_and_are_known_to_have_left(
    order_state: str, line_states: tuple[str, ...], asking: dict[str, bool]
) -> None:
    facts = order_facts(order_state, line_states)
    assert {line.line_id: left for line, left in lines_that_ask(facts, adopted=False)} == asking
    assert not list(lines_that_ask(facts, adopted=True))


def test_a_removed_product_shows_nothing_and_a_perpetual_one_its_cap() -> None:
    assert shown(Stock(Decimal(9), removed=True), Terms(), Decimal(0), 1).quantity == 0
    assert shown(Stock(Decimal(0), perpetual=True), Terms(cap=20), Decimal(0), 1).quantity == 20
    assert shown(Stock(Decimal(0), perpetual=True), Terms(), Decimal(5), 1).quantity == 999


@pytest.mark.parametrize(
    ("ats", "terms", "pack", "quantity"),
    [
        ("10", Terms(buffer=2), 1, 6),
        ("10", Terms(buffer=2, cap=7), 1, 6),
        ("10", Terms(buffer=2, cap=5), 1, 5),
        ("4", Terms(buffer=2), 1, 1),
        ("3", Terms(buffer=2), 1, 1),
        ("2", Terms(buffer=2), 1, 0),
        ("20", Terms(buffer=2), 6, 2),
        ("8", Terms(buffer=2), 6, 1),
        ("10", Terms(), 1, 10),
    ],
)
def test_while_its_source_is_stale_an_offer_keeps_twice_the_buffer_back_and_never_falls_to_zero_for_that(
    ats: str, terms: Terms, pack: int, quantity: int
) -> None:
    found = shown(Stock(Decimal(ats)), terms, Decimal(0), pack, stale=True)
    assert (found.quantity, found.buffers) == (quantity, 2 if terms.buffer else 1)


def test_a_source_is_stale_once_its_last_word_is_older_than_its_limit() -> None:
    limit = timedelta(minutes=15)
    assert not is_stale(NOON - limit, NOON, limit)
    assert is_stale(NOON - limit - timedelta(seconds=1), NOON, limit)


@pytest.mark.parametrize(
    ("on_show", "let_through", "falling", "units", "held"),
    [
        (100, 0, 1, None, False),
        (100, 0, 30, None, False),
        (100, 0, 31, None, True),
        (100, 20, 11, None, True),
        (2, 0, 2, None, False),
        (5, 0, 3, None, True),
        (1000, 0, 3, 20, True),
        (1000, 0, 3, 30, False),
    ],
)
def test_falls_are_held_once_they_are_more_than_the_limit_within_the_window(
    on_show: int, let_through: int, falling: int, units: int | None, held: bool
) -> None:
    terms = Terms(mass_zero_percent=30, mass_zero_units=units)
    passed, now = Falls(let_through, let_through * 10), Falls(falling, falling * 10)
    assert is_mass(terms, on_show, passed, now, NOON) is held


def test_what_follows_a_held_mass_at_once_belongs_to_it_and_a_single_zero_later_flows() -> None:
    one = Falls(1, 5)
    held_at = NOON - timedelta(seconds=30)
    assert is_mass(Terms(), 100, Falls(), one, NOON, held_at=held_at)
    assert not is_mass(Terms(), 100, Falls(), one, NOON + timedelta(minutes=2), held_at=held_at)


def test_what_a_person_has_approved_is_not_held_again() -> None:
    every = Falls(100, 500)
    assert not is_mass(Terms(), 100, Falls(), every, NOON, approved_until=NOON + timedelta(seconds=1))
    assert is_mass(Terms(), 100, Falls(), every, NOON, approved_until=NOON)


def test_a_change_is_as_old_as_oci_says_only_where_that_lies_between_two_reads() -> None:
    before, started = NOON - timedelta(seconds=15), NOON
    inside = NOON - timedelta(seconds=4)
    assert changed_at(inside, before, started) == inside
    assert changed_at(before, before, started) == started
    assert changed_at(NOON + timedelta(hours=1), before, started) == started
    assert changed_at(None, before, started) == started
    assert changed_at(inside, None, started) == started
