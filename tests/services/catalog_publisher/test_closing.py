"""A refusal is no case any more once it is overtaken: whatever came about, or is not wanted now."""

from __future__ import annotations

import pytest

from services.catalog_publisher.closing import close_overtaken
from services.catalog_publisher.mapped import CatalogueTerms
from shared.cases import open_case
from tests.services.catalog_publisher.shelf import SHOP, Shelf, shelf


async def refused(here: Shelf, sku: str, operation: str) -> None:
    """The marketplace did not take it."""
    product = operation == "P41"
    async with here.outbox.transaction() as tx:
        await open_case(
            tx,
            "product-rejected" if product else "offer-rejected",
            about=f"product/m/2001/{sku}" if product else SHOP.about(sku),
            cause=operation,
            facts={"reason": "not allowed"},
        )


async def left(here: Shelf, terms: CatalogueTerms | None = None) -> list[str]:
    """The cases that stay open."""
    async with here.outbox.transaction() as tx:
        await close_overtaken(tx, SHOP, terms or CatalogueTerms())
    return await here.open_cases()


async def test_a_refused_product_is_settled_once_the_marketplace_knows_it_or_nobody_sells_it(
    database_url: str,
) -> None:
    async with shelf(database_url) as here:
        for product in ("P1", "P2", "P3", "P4"):
            await here.product(product)
            await refused(here, product, "P41")
        assert await left(here) == ["P1 P41", "P2 P41", "P3 P41", "P4 P41"]
        await here.product("P2", known=True)
        await here.product("P3", sold=False)
        await here.database.execute("UPDATE products SET gone = true WHERE product_id = 'P4'")
        assert await left(here) == ["P1 P41"]


async def test_a_refused_creation_is_settled_once_the_offer_is_there_or_not_wanted(database_url: str) -> None:
    async with shelf(database_url) as here:
        for product in ("P1", "P2", "P3", "P4"):
            await here.product(product, known=True)
            await refused(here, product, "OF24")
        assert await left(here) == ["P1 OF24", "P2 OF24", "P3 OF24", "P4 OF24"]
        await here.offer("P2", "P2")
        await here.offer("ANOTHER-SKU", "P3")
        await here.product("P4", sold=False)
        assert await left(here) == ["P1 OF24"]
        assert await left(here, CatalogueTerms(create_offers=False)) == []


async def test_a_refused_price_is_settled_once_the_prices_agree_or_the_offer_is_gone(database_url: str) -> None:
    async with shelf(database_url) as here:
        for sku in ("A", "B", "C", "D"):
            await here.product(f"P{sku}")
            await here.offer(sku, f"P{sku}", price="10.00")
            await here.price(f"P{sku}", "12.00")
            await refused(here, sku, "PRI01")
        assert await left(here) == ["A PRI01", "B PRI01", "C PRI01", "D PRI01"]
        await here.offer("B", "PB", price="12.00")
        await here.price("PC", "10.00")
        await here.offer("D", "PD", there=False)
        assert await left(here) == ["A PRI01"]
        await here.offer("A", "PA", pack=6)
        assert await left(here) == []


@pytest.mark.parametrize("end", ["shown", "unwanted", "gone", "unmapped"])
async def test_a_refused_attribute_is_settled_once_it_is_shown_or_nobody_wants_it(database_url: str, end: str) -> None:
    async with shelf(database_url) as here:
        await here.map_line("attribute", "unit", "offer:logistic-class")
        for sku in ("A", "B"):
            await here.product(f"P{sku}", unit="L")
            await here.offer(sku, f"P{sku}", logistic_class_code="S")
            await refused(here, sku, "OF01")
        assert await left(here) == ["A OF01", "B OF01"]
        match end:
            case "shown":
                await here.offer("B", "PB", logistic_class_code="L")
            case "unwanted":
                await here.product("PB")
            case "gone":
                await here.offer("B", "PB", there=False)
            case _:
                await here.map_line("attribute", "unit", "weight")
        assert await left(here) == ([] if end == "unmapped" else ["A OF01"])


async def test_a_case_of_another_shop_is_left_alone(database_url: str) -> None:
    async with shelf(database_url) as here:
        async with here.outbox.transaction() as tx:
            await open_case(tx, "product-rejected", about="product/m/20012/P1", cause="P41")
            await open_case(tx, "offer-rejected", about="offer/m/20012/P1", cause="PRI01")
        assert await left(here) == ["P1 PRI01", "P1 P41"]
