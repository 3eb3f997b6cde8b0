"""Salesforce Help's own tables of platform inventory: what reset, order, export, cancel and their undoing do to a
record.

A allocation, B pre-/back-order allocation, T turnover, O on order, S stock level, V available for shipping, ATS.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sandbox.sfcc.platform_inventory import InventoryRecord

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def at(hour: int) -> datetime:
    """An hour of the day."""
    return START + timedelta(hours=hour)


def record(backorder: int = 10) -> InventoryRecord:
    """A record that was reset to 20 at the start."""
    made = InventoryRecord(
        product_id="P",
        created=START,
        modified=START,
        reset=START,
        backorder_handling="backorder",
        backorder_allocation=Decimal(backorder),
    )
    made.reset_allocation(Decimal(20), START, START)
    return made


def whole(*numbers: Decimal) -> tuple[int, ...]:
    """Amounts as whole numbers."""
    return tuple(int(number) for number in numbers)


def row(one: InventoryRecord) -> tuple[int, ...]:
    """A, B, T, O, S, V, ATS."""
    return whole(
        one.allocation,
        one.backorder_allocation,
        one.turnover,
        one.on_order,
        one.stock_level,
        one.available_for_shipping,
        one.ats,
    )


def test_without_on_order_an_order_is_turnover_at_once_and_export_changes_nothing() -> None:
    one = record()
    assert row(one) == (20, 10, 0, 0, 20, 20, 30)
    one.order_created(Decimal(5), on_order=False, now=at(1))
    assert row(one) == (20, 10, 5, 0, 15, 15, 25)
    one.order_created(Decimal(2), on_order=False, now=at(2))
    assert row(one) == (20, 10, 7, 0, 13, 13, 23)
    one.reset_allocation(Decimal(11), at(4), at(4))
    assert row(one) == (11, 10, 0, 0, 11, 11, 21)


def test_with_on_order_an_order_waits_until_its_export() -> None:
    one = record()
    one.order_created(Decimal(5), on_order=True, now=at(1))
    assert row(one) == (20, 10, 0, 5, 15, 20, 25)
    one.order_exported(Decimal(5), at(2))
    assert row(one) == (20, 10, 5, 0, 15, 15, 25)
    one.order_created(Decimal(2), on_order=True, now=at(3))
    assert row(one) == (20, 10, 5, 2, 13, 15, 23)
    one.reset_allocation(Decimal(11), at(4), at(4))
    assert row(one) == (11, 10, 0, 2, 9, 11, 19)
    one.order_exported(Decimal(2), at(5))
    assert row(one) == (11, 10, 2, 0, 9, 9, 19)


def test_a_late_count_keeps_what_was_ordered_after_it_and_a_cancellation_gives_back_only_that() -> None:
    one = record()
    one.order_created(Decimal(5), on_order=False, now=at(1))
    one.order_created(Decimal(2), on_order=False, now=at(4))
    # The count was taken at hour 3: it knows of the first order, not of the second.
    one.reset_allocation(Decimal(11), at(3), at(6))
    assert whole(one.turnover, one.stock_level, one.ats) == (2, 9, 19)
    assert one.order_undone(Decimal(5), phase="turnover", exported_at=at(2), now=at(7)) is False
    assert one.ats == 19
    assert one.order_undone(Decimal(2), phase="turnover", exported_at=at(5), now=at(8)) is True
    assert whole(one.turnover, one.stock_level, one.ats) == (0, 11, 21)


def test_with_on_order_failing_and_cancelling_and_their_undoing_come_out_even() -> None:
    one = record()
    one.order_created(Decimal(5), on_order=True, now=at(1))
    one.order_created(Decimal(2), on_order=True, now=at(2))
    assert whole(one.on_order, one.ats) == (7, 23)
    one.order_exported(Decimal(2), at(4))
    assert whole(one.turnover, one.on_order) == (2, 5)
    one.reset_allocation(Decimal(11), at(3), at(5))
    assert row(one) == (11, 10, 2, 5, 4, 9, 14)
    assert one.order_undone(Decimal(5), phase="on_order", exported_at=None, now=at(6)) is True
    assert whole(one.on_order, one.stock_level, one.ats) == (0, 9, 19)
    assert one.order_undone(Decimal(2), phase="turnover", exported_at=at(4), now=at(7)) is True
    assert whole(one.turnover, one.ats) == (0, 21)
    one.order_created(Decimal(5), on_order=True, now=at(8))
    assert whole(one.on_order, one.ats) == (5, 16)
    one.order_created(Decimal(2), on_order=False, now=at(9))
    assert whole(one.turnover, one.ats) == (2, 14)


def test_a_perpetual_record_is_always_available() -> None:
    one = record()
    one.perpetual = True
    one.order_created(Decimal(5_000), on_order=False, now=at(1))
    assert one.ats == 999_999
