"""7. Out-of-order stock: the newest number stands, nothing older goes out after it, and 1 -> 0 -> 1 ends with 1."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.events.stock import OfferStockConfirmed, OfferStockSubmitted
from shared.kafka import partition_of
from shared.topics import BUSY
from tests.services.inventory_publisher.kit import OUTSIDE, Ground, ground, until


async def test_levels_that_arrive_out_of_order_across_a_rebalance_end_with_the_newest(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        sku, last = here.skus[:2]
        product, marker = f"{here.market}-A", behind(f"{here.market}-A")
        await here.map((sku, product), (last, marker))
        t1, t2, t3 = (here.sometime(minutes) for minutes in (-3, -2, -1))
        async with here.service():
            await here.put(here.level(product, 3, t3), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 3}))
            async with here.service():
                await here.put(here.level(product, 5, t1), here.level(product, 0, t2), source=OUTSIDE)
                await here.put(here.level(marker, 8, t3), source=OUTSIDE)
                await until(lambda: here.confirmed({sku: 3, last: 8}))
        assert [one.quantity for one in await here.said(OfferStockSubmitted) if one.shop_sku == sku] == [3]


@pytest.mark.parametrize("identical", ["new", "existing"])
async def test_one_zero_one_sends_the_last_one_however_identical_files_are_answered(
    kafka_bootstrap: str, database_url: str, tmp_path: Path, identical: str
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        await here.behave(identical_stock_import=identical)
        sku, product = here.skus[0], f"{here.market}-A"
        await here.map((sku, product))
        async with here.service():
            for minute, quantity in enumerate((1, 0, 1), -20):
                await here.put(here.level(product, quantity, here.sometime(minute)), source=OUTSIDE)
                await until(lambda quantity=quantity: here.confirmed({sku: quantity}))  # type: ignore[misc]

            before = (await here.offer(sku))["shown_import"]
            levels = [here.level(product, quantity, here.sometime(n - 10)) for n, quantity in enumerate((0, 1))]
            await here.put(*levels, source=OUTSIDE)
            await until(lambda: newer_than(here, sku, before))
        proven = [one for one in await here.said(OfferStockConfirmed) if one.shop_sku == sku]
        assert [one.quantity for one in proven[:3]] == [1, 0, 1]
        assert proven[-1].quantity == 1
        assert len({one.import_id for one in proven}) == len(proven), "each is proven by an import of its own"


async def test_the_result_of_an_earlier_import_is_not_taken_for_a_new_push(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        sku, product = here.skus[0], f"{here.market}-A"
        await here.map((sku, product))
        async with here.service():
            await here.put(here.level(product, 4, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 4}))
            [first] = await here.said(OfferStockConfirmed)
            await here.fault(kind="set_value", operation="STO01", path="import_id", value=first.import_id, count=1)
            await here.put(here.level(product, 9, here.sometime(-4)), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 9}))
        proven = await here.said(OfferStockConfirmed)
        assert [one.quantity for one in proven] == [4, 9]
        assert proven[1].import_id != first.import_id
        assert here.calls("STO01") == 3


def behind(product: str) -> str:
    """Another product whose events come after those of this one, because they share a partition."""
    wanted = partition_of(product, BUSY)
    return next(name for n in range(1000) if partition_of(name := f"{product}-{n}", BUSY) == wanted)


async def newer_than(here: Ground, sku: str, number: int) -> bool:
    offer = await here.offer(sku)
    return bool(offer["shown_import"] > number and await here.confirmed({sku: 1}))
