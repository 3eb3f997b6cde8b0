"""10. Mass zero: an export that arrives empty is held for a person while single zeros flow, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

from shared.events.stock import OfferStockHeld
from tests.services.inventory_publisher.kit import OUTSIDE, Ground, ground, until


async def test_an_empty_export_is_held_and_released_by_itself_when_the_stock_comes_back(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        pairs = [(sku, f"P{n:06d}") for n, sku in enumerate(here.skus[:10], 1)]
        for _, product in pairs:
            await here.count(product, 5)
        await here.map(*pairs)
        async with here.service():
            full = {sku: 5 for sku, _ in pairs}
            await until(lambda: here.confirmed(full))
            records = here.sfcc.stock._records["warehouse_north"]
            kept = dict(records)
            records.clear()
            await here.database.execute("UPDATE feeds SET token = NULL")
            await until(lambda: held(here, 10))
            assert await here.cases() == ["stock-mass-zero"]
            assert {here.on_show(sku) for sku in full} == {5}
            records.update(kept)
            for _, product in pairs:
                await here.count(product, 4)
            await until(lambda: here.confirmed({sku: 4 for sku, _ in pairs}))
            await until(lambda: no_case(here))
        assert {one.guard for one in await here.said(OfferStockHeld)} == {"mass-zero"}


async def test_single_zeros_flow_a_mass_is_held_and_approved_once_and_then_nothing_is_missing(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        full = await stocked(here, 10)
        first, second, *rest = full
        async with here.service():
            await until(lambda: here.confirmed(full))
            await tell(here, {first: 0}, -8)
            await until(lambda: here.confirmed({first: 0}))
            await tell(here, dict.fromkeys(rest, 0), -7)
            await until(lambda: held(here, 8))
            await tell(here, {second: 3, rest[0]: 2}, -6)
            await until(lambda: here.confirmed({second: 3, rest[0]: 2}))
            assert {here.on_show(sku) for sku in rest[1:]} == {5}, "what is held stays as it was"
            assert await here.cases() == ["stock-mass-zero"]

            await here.decide(approved=True)
            await until(lambda: here.confirmed({first: 0, second: 3, rest[0]: 2} | dict.fromkeys(rest[1:], 0)))
            await tell(here, {rest[1]: 6}, -5)
            await until(lambda: here.confirmed({rest[1]: 6}))
        assert await here.cases() == []


async def test_what_a_person_discards_stays_on_show_until_the_next_word(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        full = await stocked(here, 6)
        async with here.service():
            await until(lambda: here.confirmed(full))
            await tell(here, dict.fromkeys(full, 0), -8)
            await until(lambda: held(here, 6))
            await here.decide(approved=False)
            await until(lambda: no_case(here))
            await tell(here, dict.fromkeys(full, 7), -7)
            await until(lambda: here.confirmed(dict.fromkeys(full, 7)))
        assert await here.held() == 0


async def stocked(here: Ground, count: int) -> dict[str, int]:
    """So many offers, each of a product of its own with five pieces."""
    skus = here.skus[:count]
    await here.map(*((sku, f"{here.market}-{sku}") for sku in skus))
    await tell(here, dict.fromkeys(skus, 5), -9)
    return dict.fromkeys(skus, 5)


async def tell(here: Ground, quantities: dict[str, int], minute: int) -> None:
    """An outside producer says what there is of these offers' products."""
    at = here.sometime(minute)
    levels = [here.level(f"{here.market}-{sku}", quantity, at) for sku, quantity in quantities.items()]
    await here.put(*levels, source=OUTSIDE)


async def held(here: Ground, count: int) -> bool:
    return await here.held() == count


async def no_case(here: Ground) -> bool:
    return not await here.cases()
