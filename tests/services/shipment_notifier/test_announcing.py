"""What is to be told of an order's parcels, and what waits for what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from services.shipment_notifier.announcing import (
    REFUSED,
    Announcement,
    Correction,
    contents,
    plan,
    with_parcel,
    with_word,
)
from services.shipment_notifier.carriers import Found, Unknown
from services.shipment_notifier.model import Line, Order, Parcel, Stage, Told
from shared.events.fields import LineUnits
from shared.events.shipments import DispatchedLine, ParcelDispatched, ParcelTracked, ParcelWithdrawn

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
A = Line(line_id="A", shop_sku="sku-a", product_id="P1", quantity=2, state="SHIPPING")
B = Line(line_id="B", shop_sku="sku-b", product_id="P2", quantity=1, state="SHIPPING")
TRACKED = Told(carrier_code="DPD", tracking_number="1")


def known(left: str) -> Found | Unknown:
    return Found(code="DPD") if left == "dpd" else Unknown()


def line(line_id: str, quantity: int = 1) -> DispatchedLine:
    return DispatchedLine(line_id=line_id, quantity=quantity)


def parcel(name: str, *lines: DispatchedLine, number: str | None = "1", **more: Any) -> Parcel:
    wanted: dict[str, Any] = {"carrier": "DPD"} | more
    return Parcel(parcel_id=name, dispatched_at=NOW, lines=lines, tracking_number=number, **wanted)


def order(*parcels: Parcel, **more: Any) -> Order:
    wanted: dict[str, Any] = {"shop": "1", "state": "SHIPPING", "lines": (A, B)} | more
    return Order(marketplace="m", order_id="o", parcels=parcels, **wanted)


def reasons(found: Order, several: bool | None = False) -> dict[str, str]:
    return {one.parcel_id: one.reason for one in plan(found, known, several).holds}


def units(**quantities: int) -> tuple[LineUnits, ...]:
    return tuple(LineUnits(line_id=line_id, quantity=quantity) for line_id, quantity in quantities.items())


# The order as a whole ---------------------------------------------------------------------------------


def test_a_parcel_that_holds_the_order_ships_it_whole() -> None:
    follows = plan(order(parcel("p")), known, several=False)
    assert follows.announcements == (
        Announcement(operation="OR24", parcel_ids=("p",), units=units(A=2, B=1), told=TRACKED),
    )
    assert not follows.holds


def test_missing_lines_hold_the_whole_order_until_it_is_complete() -> None:
    first, second = parcel("p", line("A", 2), number="1"), parcel("q", line("B"), number="2")
    assert reasons(order(first)) == {"p": "order-incomplete"}
    assert not plan(order(first), known, several=False).announcements
    [told] = plan(order(first, second), known, several=False).announcements
    assert told.parcel_ids == ("q", "p"), "the one that left last stands for the order"
    assert told.told == Told(carrier_code="DPD", tracking_number="2")
    assert told.units == units(A=2, B=1)


def test_a_cancelled_line_is_not_waited_for() -> None:
    follows = plan(order(parcel("p", line("A", 2)), lines=(A, replace(B, state="CANCELED"))), known, several=False)
    assert [one.units for one in follows.announcements] == [units(A=2)]


def test_one_unknown_carrier_holds_its_neighbours_too() -> None:
    found = order(parcel("p", line("A", 2)), parcel("q", line("B"), carrier="dpd uk "))
    assert reasons(found) == {"p": "order-incomplete", "q": "unmapped-carrier"}
    [hold] = [one for one in plan(found, known, several=False).holds if one.parcel_id == "q"]
    assert (hold.carrier, hold.case) == ("dpd uk", "carrier-unmapped")


# Each parcel by itself --------------------------------------------------------------------------------


def test_where_orders_may_have_several_shipments_each_parcel_goes_by_itself() -> None:
    found = order(parcel("p", line("A", 1)), parcel("q", line("A", 1), carrier="x"), parcel("r", line("B")))
    follows = plan(found, known, several=True)
    assert [(one.operation, one.parcel_ids, one.units) for one in follows.announcements] == [
        ("ST01", ("p",), units(A=1)),
        ("ST01", ("r",), units(B=1)),
    ]
    assert reasons(found, several=True) == {"q": "unmapped-carrier"}


def test_no_unit_is_announced_twice() -> None:
    done = parcel("p", line("A", 2), stage="announced", units=units(A=2), told=TRACKED, shipment_id="s")
    follows = plan(order(done, parcel("q", line("A", 2)), parcel("r")), known, several=True)
    assert [(one.parcel_ids, one.units) for one in follows.announcements] == [(("r",), units(B=1))]
    assert [(one.parcel_id, one.reason) for one in follows.holds] == [("q", "nothing-left")]


def test_pieces_of_a_pack_go_as_a_unit_with_the_parcel_that_completes_it() -> None:
    pack = replace(A, pack=6)
    four = DispatchedLine(product_id="P1", quantity=4)
    found = contents(order(parcel("p", four), parcel("q", four), parcel("r", four), lines=(pack,)))
    assert [found.units[name] for name in "pqr"] == [(), units(A=1), units(A=1)]
    assert found.complete


@pytest.mark.parametrize(
    "wanted",
    [
        DispatchedLine(shop_sku="sku-a", quantity=2),
        DispatchedLine(product_id="P1", quantity=2),
        DispatchedLine(line_id="A", product_id="P1", quantity=2),
    ],
)
def test_a_line_is_found_by_any_of_its_three_names(wanted: DispatchedLine) -> None:
    assert contents(order(parcel("p", wanted))).units["p"] == units(A=2)


# What waits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "reason", "case"),
    [
        (order(parcel("p"), shop=None), "order-unknown", None),
        (order(parcel("p"), state="WAITING_DEBIT_PAYMENT"), "order-not-shipping", None),
        (order(parcel("p"), state="CANCELED"), "order-cancelled", "parcel-of-cancelled-order"),
        (order(parcel("p"), by_operator=True), "sent-by-operator", "parcel-not-expected"),
        (order(parcel("p", number=None)), "no-tracking", "shipment-without-tracking"),
        (order(parcel("p", number=None, carrier=None)), "no-tracking", "shipment-without-tracking"),
        (order(parcel("p", carrier=None)), "unmapped-carrier", "carrier-unmapped"),
        (order(parcel("p", line("Z"))), "not-in-order", "parcel-not-expected"),
    ],
)
@pytest.mark.parametrize("several", [True, False])
def test_a_parcel_waits_for_what_it_lacks(found: Order, reason: str, case: str | None, several: bool) -> None:
    follows = plan(found, known, several)
    assert not follows.announcements
    assert [(one.reason, one.case) for one in follows.holds] == [(reason, case)]


def test_nothing_is_told_while_nobody_knows_how_the_platform_ships() -> None:
    assert reasons(order(parcel("p")), None) == {"p": "platform-unknown"}


def test_an_unknown_carrier_is_asked_about_before_the_order_may_be_shipped() -> None:
    assert reasons(order(parcel("p", carrier="x"), state="WAITING_DEBIT")) == {"p": "unmapped-carrier"}


@pytest.mark.parametrize("several", [True, False])
def test_a_person_may_let_a_parcel_go_without_tracking(several: bool) -> None:
    [told] = plan(order(parcel("p", number=None, bare=True)), known, several).announcements
    assert told.told is None


def test_what_was_refused_is_not_sent_again_unless_it_has_changed() -> None:
    refused = parcel("p", held=REFUSED, refused=TRACKED)
    assert reasons(order(refused)) == {"p": REFUSED}
    assert plan(order(replace(refused, tracking_number="2")), known, several=False).announcements


def test_an_order_that_is_shown_as_shipped_is_not_shipped_again() -> None:
    follows = plan(order(parcel("p"), state="SHIPPED"), known, several=False)
    assert (follows.announcements, follows.found) == ((), ("p",))


# Later trackings --------------------------------------------------------------------------------------


def announced(stage: Stage = "announced", **more: Any) -> Parcel:
    return parcel("p", stage=stage, units=units(A=2, B=1), told_as="dpd", **more)


@pytest.mark.parametrize("several", [True, False])
def test_late_and_corrected_tracking_is_relayed(several: bool) -> None:
    shipment = "s" if several else None
    for before in (None, replace(TRACKED, tracking_number="0")):
        found = order(announced(told=before, shipment_id=shipment), state="SHIPPED")
        assert plan(found, known, several).corrections == (
            Correction(parcel_id="p", told=TRACKED, shipment_id=shipment),
        )


def test_a_tracking_that_is_told_or_being_told_is_not_told_again() -> None:
    for parcel_ in (announced(told=TRACKED), announced(told=None, telling=TRACKED), announced("owed", told=None)):
        assert not plan(order(parcel_, state="SHIPPED"), known, several=False).corrections


def test_another_mapping_changes_nothing_of_what_was_told_but_another_carrier_does() -> None:
    old = Told(carrier_code="OLD", tracking_number="1")
    assert not plan(order(announced(told=old), state="SHIPPED"), known, several=False).corrections
    assert not plan(order(announced(told=old), state="SHIPPED"), lambda _: Unknown(), several=False).holds
    other = replace(announced(told=old), told_as="dhl")
    assert plan(order(other, state="SHIPPED"), known, several=False).corrections


def test_an_order_that_has_arrived_takes_no_tracking() -> None:
    assert not plan(order(announced(told=None), state="RECEIVED"), known, several=False).corrections


def test_an_orders_one_tracking_is_not_replaced_by_that_of_another_parcel() -> None:
    second = replace(announced(told=None), parcel_id="q", tracking_number="2", units=())
    assert not plan(order(announced(told=TRACKED), second, state="SHIPPED"), known, several=False).corrections


# What warehouses say ----------------------------------------------------------------------------------


def dispatched(**more: Any) -> ParcelDispatched:
    return ParcelDispatched(marketplace="m", order_id="o", parcel_id="p", dispatched_at=NOW, **more)


def test_a_parcel_that_is_told_of_again_stays_one_parcel() -> None:
    once = with_word(order(), dispatched(carrier="DPD", tracking_number="1"))
    assert with_word(once, dispatched(carrier="DPD", tracking_number="1")) == once
    assert with_word(once, dispatched()).parcels == once.parcels


def test_what_was_announced_keeps_its_contents() -> None:
    found = order(announced(told=TRACKED))
    assert with_word(found, dispatched(lines=(line("A"),))).parcels[0].lines == ()


def test_tracking_reaches_its_parcel_and_no_other() -> None:
    late = ParcelTracked(marketplace="m", order_id="o", parcel_id="p", tracking_number="9", tracked_at=NOW)
    assert with_word(order(parcel("p", number=None)), late).parcels[0].tracking_number == "9"
    assert with_word(order(), late) == order()


def test_a_withdrawn_parcel_is_forgotten_until_it_was_announced() -> None:
    gone = ParcelWithdrawn(marketplace="m", order_id="o", parcel_id="p", withdrawn_at=NOW)
    waiting = with_word(order(parcel("p"), parcel("q", line("A"))), gone)
    assert waiting.parcels[0].stage == "withdrawn"
    assert reasons(waiting) == {"q": "order-incomplete"}
    assert with_word(order(announced()), gone) == order(announced())
    assert with_word(waiting, dispatched()).parcels[0].stage == "waiting"


def test_a_parcel_keeps_its_place() -> None:
    found = with_parcel(order(parcel("p"), parcel("q")), parcel("p", number="7"))
    assert [one.parcel_id for one in found.parcels] == ["p", "q"]
