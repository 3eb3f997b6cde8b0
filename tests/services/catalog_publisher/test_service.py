"""The service on real Kafka and PostgreSQL between an open SFCC and an open Mirakl."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from sandbox.sfcc.catalogue import gtin
from sandbox.sfcc.config import ProductConfig
from shared.events.catalog import OfferMapped, OfferPublished, OfferUnmapped, ProductPublished, ProductSubmitted
from tests.services.catalog_publisher.kit import ground, until
from tests.services.control_room.visitor import mapping_page


def product(number: int, *, price: str = "19.90", ean: bool = True) -> ProductConfig:
    """SFCC's product P1, P2, …"""
    return ProductConfig(
        id=f"P{number}",
        name=f"Mug {number}",
        ean=gtin(number) if ean else "",
        prices={"eur-list": Decimal(price)},
    )


async def test_on_first_connection_every_offer_is_mapped_or_asked_about_and_a_mapping_answers_at_once(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    products = [product(number) for number in (1, 2, 3)]
    async with ground(kafka_bootstrap, database_url, tmp_path, products=products, mode="observe") as here:

        async def asked(count: int) -> bool:
            return len(await here.cases()) == count

        here.sells("P1")
        here.sells("OLD-2", ean=gtin(2))
        here.sells("OTHER")
        async with here.service():
            await until(lambda: asked(2))
            by_about = {case["about"].rpartition("/")[2]: case["opened"] for case in await here.cases()}
            assert by_about["OLD-2"]["facts"]["candidates"] == "P2"
            assert "EAN" not in by_about["OTHER"]["facts"]
            assert await here.mapped() == {"P1": ("P1", 1, "same-sku")}

            await here.map("OLD-2", "P2", pack=6)
            await until(lambda: asked(1))
            assert (await here.mapped())["OLD-2"] == ("P2", 6, "mapping")
            await here.unmap("OLD-2", was="P2")
            await until(lambda: asked(2))
        told = {one.shop_sku: one for one in await here.said(OfferMapped)}
        assert (told["OLD-2"].product_id, told["OLD-2"].pack_quantity, told["OLD-2"].ean) == ("P2", 6, gtin(2))
        assert [one.was_product_id for one in await here.said(OfferUnmapped)] == ["P2"]
        assert {one.shop_sku for one in await here.said(OfferPublished)} == {"P1", "OLD-2", "OTHER"}
        assert here.calls("OF24") == here.calls("OF01") == here.calls("PRI01") == here.calls("P41") == 0
        assert here.mirakl.recorder.violations_by_rule == {}


async def test_a_product_that_the_marketplace_does_not_know_is_sent_and_offered_once_it_is_taken(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with (
        ground(kafka_bootstrap, database_url, tmp_path, products=[product(50)]) as here,
        mapping_page(database_url, tmp_path) as on_the_page,
    ):

        async def map_line(kind: str, left: str, right: str) -> None:
            await here.put(await on_the_page(here.market, kind, left, right))

        async def asked(*about: str) -> bool:
            return [case["about"].partition("/")[0] + "/" + case["about"].rpartition("/")[2]
                    for case in await here.cases()] == list(about)  # fmt: skip

        for attribute, field in (("id", "shop_sku"), ("ean", "ean"), ("category", "category")):
            await map_line("attribute", attribute, field)
        async with here.service():
            await until(lambda: asked("category/all"))
            await map_line("category", "all", "coffee")
            await until(lambda: asked("attribute/title"))
            assert here.calls("P41") == 0
            await map_line("attribute", "name", "title")

            async def offered() -> bool:
                return (await here.mapped()).get("P50") == ("P50", 1, "same-sku")

            await until(offered)
        offer = here.shop.offers["P50"]
        assert (offer.product.title, offer.price, offer.quantity) == ("Mug 50", Decimal("19.90"), 0)
        assert here.calls("P41") == here.calls("OF24") == 1
        assert [one.product_id for one in await here.said(ProductSubmitted)] == ["P50"]
        assert [one.product_sku for one in await here.said(ProductPublished)] == [offer.product.sku]
        assert await here.cases() == []
        assert here.mirakl.recorder.violations_by_rule == {}


async def test_prices_come_from_the_price_book_of_the_currency_by_a_job_and_its_file(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    site = 'price_books = { EUR = "eur-list" }'
    products = [product(1, price="20.00")]
    async with ground(kafka_bootstrap, database_url, tmp_path, products=products, site=site, webdav=True) as here:
        here.sfcc.catalogue.set_price("eur-sale", "P1", Decimal("11.00"))
        here.sells("P1", price="15.00", quantity=9)
        async with here.service():

            async def priced() -> bool:
                return here.shop.offers["P1"].price == Decimal("20.00")

            await until(priced)
        assert here.shop.offers["P1"].quantity == 9
        assert await here.cases(still_open=False) == []


async def test_a_marketplace_that_keeps_its_own_prices_is_sent_none(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    products = [product(1), product(2)]
    market = 'prices = "marketplace"'
    async with ground(kafka_bootstrap, database_url, tmp_path, products=products, market=market) as here:
        here.sells("P1", ean=gtin(1), price="15.00")
        here.knows(gtin(2))
        await here.map_line("attribute", "unit", "offer:logistic-class")
        async with here.service():

            async def changed() -> bool:
                return here.calls("OF01") == 1

            # The last errand of a round: by then prices and creations would have gone out.
            await until(changed)
        assert here.calls("PRI01") == here.calls("OF24") == 0
        assert here.shop.offers["P1"].price == Decimal("15.00")


async def test_an_offer_whose_creation_nobody_knows_the_end_of_is_not_created_twice(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, products=[product(1)]) as here:
        here.knows(gtin(1))
        await here.fault(operation="OF24", kind="cut_after_effect", count=1)
        async with here.service():

            async def offered() -> bool:
                return (await here.mapped()).get("P1") == ("P1", 1, "same-sku")

            await until(offered)
            here.shop.offers["P1"].quantity = 5
        async with here.service():
            await until(lambda: here.rounds(3))
        assert here.calls("OF24") == 1
        assert here.shop.offers["P1"].quantity == 5
