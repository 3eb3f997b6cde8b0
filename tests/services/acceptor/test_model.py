"""What an accepted order wants of SFCC's stock, and what is said of its lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from services.acceptor.decision import Reservation, Wish
from services.acceptor.model import (
    Decided,
    Known,
    Product,
    lacking,
    line_answers,
    release_reason,
    see_gone,
    timed_out,
    wanted_after,
)
from shared.events.decisions import LineAnswer
from shared.events.orders import OrderFacts, OrderLine
from shared.money import Money

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EUR = Money(Decimal("9.99"), "EUR")
PRODUCTS = {"A": Product("PA", 3), "B": Product("PB"), "C": Product("PC")}


def order(*states: str, state: str = "SHIPPING", **more: Any) -> Known:
    """An accepted order with a line of two pieces for A, B and C, in these states."""
    lines = tuple(
        OrderLine(
            line_id=str(number),
            state=line_state,
            shop_sku=sku,
            quantity=2,
            unit_price=EUR,
            price=EUR,
            shipping_price=EUR,
            total_price=EUR,
            commission_fee=EUR,
            total_commission=EUR,
        )
        for number, (sku, line_state) in enumerate(zip("ABC", states, strict=True), 1)
    )
    facts = OrderFacts(
        marketplace="m",
        shop="1",
        order_id="W-1",
        commercial_id="W",
        state=state,
        created_at=NOW,
        last_updated_at=NOW,
        currency="EUR",
        tax_mode="TAX_INCLUDED",
        price=EUR,
        shipping_price=EUR,
        total_price=EUR,
        total_commission=EUR,
        lines=lines,
    )
    return Known(facts=facts, **({"stage": "accepted"} | more))


def wanted(
    known: Known,
    products: dict[str, Product] = PRODUCTS,
    counted: dict[str, datetime] | None = None,
    now: datetime = NOW + timedelta(days=2),
) -> dict[str, tuple[str, int]]:
    return {wish.line_id: (wish.product_id, wish.units) for wish in wanted_after(known, products, counted or {}, now)}


ALL = ("SHIPPING", "SHIPPING", "SHIPPING")
ANSWER = Decided(
    lines=(
        LineAnswer(line_id="1", accepted=True, reason="reserved"),
        LineAnswer(line_id="2", accepted=False, reason="out-of-stock"),
        LineAnswer(line_id="3", accepted=True, reason="reserved"),
    ),
    by="cliff-policy",
    proof="reservation",
    at=NOW,
)


@pytest.mark.parametrize(
    ("known", "lines"),
    [
        (order(*ALL), {"1": ("PA", 6), "2": ("PB", 2), "3": ("PC", 2)}),
        (see_gone(order("SHIPPED", "SHIPPING", "CANCELED")), {"2": ("PB", 2)}),
        (see_gone(order("SHIPPED", "RECEIVED", "SHIPPED", state="SHIPPED")), {}),
        (see_gone(order("REFUNDED", "SHIPPING", "INCIDENT_OPEN")), {"2": ("PB", 2), "3": ("PC", 2)}),
        (order(*ALL, answer=ANSWER), {"1": ("PA", 6), "3": ("PC", 2)}),
        (order(*ALL, taken_over=True), {}),
    ],
)
def test_an_accepted_order_wants_its_accepted_lines_that_are_still_to_be_sent(
    known: Known, lines: dict[str, tuple[str, int]]
) -> None:
    assert wanted(known) == lines


def test_a_reserved_line_keeps_its_product_whatever_its_sku_is_mapped_to_afterwards() -> None:
    held = Reservation(state="held", wanted=(Wish("1", "PA", 2, 3), Wish("2", "PB", 2)))
    moved = {"A": Product("OTHER", 9), "B": Product("PB"), "C": Product("PC")}
    assert wanted(order(*ALL, reservation=held), moved) == {"1": ("PA", 6), "2": ("PB", 2), "3": ("PC", 2)}


HELD = Reservation(
    state="held",
    wanted=(Wish("1", "PA", 2, 3), Wish("2", "PB", 2)),
    reserved={"1": Decimal(6), "2": Decimal(1)},
)
BOTH = {"1": ("PA", 6), "2": ("PB", 2)}
LATER = NOW + timedelta(days=1)


@pytest.mark.parametrize(
    ("counted", "now", "lines"),
    [
        ({}, LATER, BOTH),
        ({"PA": NOW, "PB": NOW - timedelta(hours=1)}, LATER, BOTH),
        ({"PA": NOW + timedelta(seconds=1)}, LATER, {"2": ("PB", 2)}),
        ({"PA": LATER, "PB": LATER}, LATER, {}),
        ({}, NOW + timedelta(days=30), {}),
    ],
)
def test_what_has_left_stays_reserved_until_its_shelf_was_counted_after_that_or_thirty_days_are_over(
    counted: dict[str, datetime], now: datetime, lines: dict[str, tuple[str, int]]
) -> None:
    for states in (("SHIPPED", "SHIPPED", "REFUSED"), ("REFUNDED", "INCIDENT_OPEN", "REFUSED")):
        assert wanted(see_gone(order(*states, state="SHIPPED", reservation=HELD)), PRODUCTS, counted, now) == lines


def test_what_has_left_keeps_what_is_held_and_asks_for_nothing_more() -> None:
    left = see_gone(order("SHIPPED", "SHIPPED", "SHIPPED", state="SHIPPED", reservation=HELD))
    assert wanted(left) == BOTH, "the third line was never reserved"
    assert lacking(left) == ()
    assert lacking(order(*ALL, reservation=HELD)) == (Wish("2", "PB", 2),)
    failed = replace(left, reservation=replace(HELD, state="failed"))
    assert wanted(failed) == {}, "nothing is held that could be kept"


def test_what_has_left_once_stays_so_from_the_first_moment_on() -> None:
    left = see_gone(order("SHIPPED", "SHIPPING", "REFUSED"))
    later = replace(order("REFUNDED", "SHIPPED", "REFUSED", state="SHIPPED").facts, last_updated_at=LATER)
    assert see_gone(replace(left, facts=later)).gone == {"1": NOW, "2": LATER}


def test_the_answer_is_told_as_the_marketplace_shows_it_with_our_reasons_where_they_agree() -> None:
    told = line_answers(order(*ALL, answer=ANSWER), {"1": "SHIPPING", "2": "REFUSED", "3": "REFUSED"})
    assert [(line.accepted, line.reason) for line in told] == [
        (True, "reserved"),
        (False, "out-of-stock"),
        (False, "refused-by-marketplace"),
    ]


def test_a_time_out_is_told_from_a_refusal_by_the_order_or_any_of_its_lines() -> None:
    assert timed_out("ACCEPTANCE_TIMEOUT", [])
    assert timed_out(None, [None, "ACCEPTANCE_TIMEOUT"])
    assert not timed_out("REFUSED", ["REFUSED"])


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (order(*ALL, state="CANCELED", stage="left"), "cancelled"),
        (order(*ALL, state="REFUSED", stage="refused"), "refused"),
        (order(*ALL, state="REFUSED", stage="timed-out"), "timed-out"),
        (order(*ALL, state="SHIPPED"), "fulfilled"),
    ],
)
def test_a_reservation_ends_for_the_reason_that_the_order_ends(known: Known, reason: str) -> None:
    assert release_reason(known) == reason
