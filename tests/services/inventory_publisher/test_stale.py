"""Stock that cannot be read any more: a named mode for its source, which begins and ends by itself."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec

from shared.events.cases import CaseClosed, CaseOpened
from shared.events.stock import OfferStockComputed
from tests.services.inventory_publisher.kit import OUTSIDE, Ground, ground, until

A_WHILE = timedelta(minutes=20)


async def test_a_place_that_cannot_be_read_is_one_case_and_its_offers_keep_twice_their_buffer_back_until_it_can(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, shop="buffer = 2") as here:
        much, little, none = here.skus[:3]
        usual = {much: 8, little: 1, none: 0}
        for product, units in (("P000001", 10), ("P000002", 3), ("P000003", 2)):
            await here.count(product, units)
        await here.map((much, "P000001"), (little, "P000002"), (none, "P000003"))
        async with here.service():
            await until(lambda: here.confirmed(usual))
            await here.out(1_000_000)
            await here.jump(A_WHILE)
            await until(lambda: stale(here))
            await until(lambda: here.confirmed({much: 6, little: 1, none: 0}))
            [opened] = await stale_cases(here)
            assert opened.facts["source"] == f"oci/group/{here.place}"
            assert (opened.severity, opened.due_at) == ("high", opened.opened_at + timedelta(hours=1))

        async with here.service():  # A restart forgets nothing, and asks nobody again.
            await here.jump(A_WHILE)
            await here.out(0)
            await until(lambda: here.confirmed(usual))
            await until(lambda: fresh(here))
        assert await here.database.fetchval("SELECT version FROM cases WHERE code = 'stock-source-stale'") == 2
        numbers = [one for one in await here.said(OfferStockComputed) if one.shop_sku == much]
        assert [(one.quantity, one.buffer, one.degraded) for one in numbers] == [
            (8, 2, False),
            (6, 4, True),
            (8, 2, False),
        ]
        assert min(one.quantity for one in await here.said(OfferStockComputed) if one.shop_sku == little) == 1


async def test_a_producer_whose_silence_is_limited_is_stale_until_its_next_word(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    more = "[stock]\nproducers_stale_after_minutes = 10\n"
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False, shop="buffer = 2", more=more) as here:
        sku, product = here.skus[0], f"{here.market}-A"
        await here.map((sku, product))
        async with here.service():
            await here.put(here.level(product, 10, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 8}))
            await here.jump(A_WHILE)
            await until(lambda: here.confirmed({sku: 6}))
            [opened] = await stale_cases(here)
            assert (opened.facts["source"], opened.facts["places"]) == (OUTSIDE, f"group/{here.place}")
            await here.put(here.level(product, 11, here.clock.now()), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 9}))
            await until(lambda: fresh(here))


async def test_a_producer_may_be_silent_where_nothing_else_is_said(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False, shop="buffer = 2") as here:
        sku, product = here.skus[0], f"{here.market}-A"
        await here.map((sku, product))
        async with here.service():
            await here.put(here.level(product, 10, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 8}))
            await here.jump(A_WHILE)
            await here.put(here.level(product, 11, here.clock.now()), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 9}))
        assert await here.cases(still_open=False) == []


async def test_a_number_is_as_old_as_the_last_read_that_told_of_no_change_and_a_producers_as_old_as_its_word(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        read, told = here.skus[:2]
        product, outside = "P000001", f"{here.market}-A"
        await here.count(product, 10)
        await here.map((read, product), (told, outside))
        async with here.service():
            await here.put(here.level(outside, 10, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: here.confirmed({read: 10, told: 10}))
            await here.jump(timedelta(hours=3))
            await until(lambda: read_since(here, timedelta(hours=3)))
            lines = ((read, product, 3), (told, outside, 3))
            await here.put(here.order(1, "WAITING_ACCEPTANCE", *lines))
            await until(lambda: here.confirmed({read: 7, told: 7}))
        numbers = await here.said(OfferStockComputed)
        assert max(one.as_of for one in numbers if one.shop_sku == read) > here.sometime(180)
        assert {one.as_of for one in numbers if one.shop_sku == told} == {here.sometime(-5)}


async def read_since(here: Ground, after: timedelta) -> bool:
    """Whether a complete read began so long after the beginning of the test."""
    read_at = await here.database.fetchval("SELECT min(read_at) FROM stock_sources")
    return bool(read_at - here.began > after)


async def stale_cases(here: Ground) -> list[CaseOpened]:
    rows = await here.database.fetch("SELECT opened FROM cases WHERE code = 'stock-source-stale'")
    return [msgspec.json.decode(row["opened"], type=CaseOpened) for row in rows]


async def stale(here: Ground) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) FROM stock_sources WHERE stale_since IS NOT NULL"))


async def fresh(here: Ground) -> bool:
    row = await here.database.fetchrow("SELECT closed FROM cases WHERE code = 'stock-source-stale'")
    if row is None or row["closed"] is None or await stale(here):
        return False
    return msgspec.json.decode(row["closed"], type=CaseClosed).outcome == "cause-fixed"
