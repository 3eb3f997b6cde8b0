"""What goes out for offers that are there, and what it costs to find out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.catalog_publisher.errands import ON_A_PAGE, Changing, Pricing
from services.catalog_publisher.sending import Sending
from tests.services.catalog_publisher.shelf import A_MOMENT, SHOP, Shelf, Shop, shelf

OFFERS = ("A", "B", "C")


async def stand(here: Shelf) -> None:
    """Three offers whose logistic class is not SFCC's."""
    await here.map_line("attribute", "unit", "offer:logistic-class")
    for sku in OFFERS:
        await here.product(f"P{sku}", unit="L")
        await here.offer(sku, f"P{sku}", logistic_class_code="S")


async def rounds(here: Shelf, shop: Shop, count: int, *, live: bool = True) -> None:
    """So many rounds of the shop's work."""
    for _ in range(count):
        errand = Changing(SHOP, here.outbox, here.business)
        await Sending(SHOP, live, here.outbox, here.business).round(shop.client, [errand])
        here.clock.advance(A_MOMENT)


def reset(quantities: dict[str, int], sku: str) -> None:
    quantities[sku] = 0


def reset_and_stocked_up(quantities: dict[str, int], sku: str) -> None:
    quantities[sku] = 9 if sku == "A" else 0


async def test_the_others_follow_once_the_first_offer_has_kept_its_stock(database_url: str) -> None:
    async with shelf(database_url) as here:
        await stand(here)
        shop = Shop(dict.fromkeys(OFFERS, 7))
        await rounds(here, shop, 2)
        assert shop.files == [["A"], ["B", "C"]]


async def test_an_offer_that_loses_its_stock_is_a_case_and_no_other_follows(database_url: str) -> None:
    async with shelf(database_url) as here:
        await stand(here)
        shop = Shop(dict.fromkeys(OFFERS, 7), reset)
        await rounds(here, shop, 3)
        assert shop.files == [["A"]]
        assert await here.open_cases() == ["m"]


async def test_stock_that_came_in_meanwhile_proves_nothing_and_another_offer_goes_first(database_url: str) -> None:
    """The first offer is reset, and its next quantity is there before it is looked at."""
    async with shelf(database_url) as here:
        await stand(here)
        shop = Shop(dict.fromkeys(OFFERS, 7), reset_and_stocked_up)
        await rounds(here, shop, 4)
        assert shop.files == [["A"], ["B"]]
        assert (shop.quantities["C"], await here.open_cases()) == (7, ["m"])


async def test_while_a_shop_is_only_observed_no_offer_goes_first(database_url: str) -> None:
    async with shelf(database_url) as here:
        await stand(here)
        shop = Shop(dict.fromkeys(OFFERS, 7))
        await rounds(here, shop, 2, live=False)
        assert (shop.files, await here.database.fetchval("SELECT count(*) FROM trials")) == ([], 0)
        await rounds(here, shop, 1)
        assert shop.files == [["A"]]


@pytest.mark.parametrize(
    ("offers", "changed", "calls"),
    [
        (3 * ON_A_PAGE, 2, lambda lists: lists == ["S000", "S001"]),
        (3 * ON_A_PAGE, 4, lambda lists: lists == [""]),  # All four stand on the first page.
        (ON_A_PAGE // 2, 2, lambda lists: lists == [""]),
        (3 * ON_A_PAGE, 0, lambda lists: lists == []),
    ],
)
async def test_the_prices_of_few_offers_are_read_one_by_one_and_of_many_page_by_page(
    database_url: str, offers: int, changed: int, calls: Callable[[list[str]], bool]
) -> None:
    async with shelf(database_url) as here:
        skus = [f"S{n:03d}" for n in range(offers)]
        for n, sku in enumerate(skus):
            await here.offer(sku, f"P{sku}")
            if n < changed:
                await here.price(f"P{sku}", "12.00")
        shop = Shop(dict.fromkeys(skus, 7))
        lines = await Pricing(SHOP, here.database, here.business).pick(shop.client)
        assert [line.sku for line in lines] == skus[:changed]
        assert calls(shop.lists)
