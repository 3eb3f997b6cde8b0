"""The service on real Kafka and PostgreSQL between an open SFCC and an open Mirakl."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from sandbox.sfcc.catalogue import gtin
from sandbox.sfcc.config import ProductConfig
from shared.events.catalog import OfferMapped, OfferPublished, OfferUnmapped
from tests.services.catalog_publisher.kit import ground, until


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
            assert by_about["OLD-2"]["facts"]["SFCC products with this EAN"] == "P2"
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
