"""The service on real Kafka and PostgreSQL between an open SFCC and an open Mirakl."""

from __future__ import annotations

from pathlib import Path

from shared.events.stock import OfferStockComputed, OfferStockConfirmed, OfferStockSubmitted
from tests.services.inventory_publisher.kit import ground, until


async def test_stock_of_sfcc_reaches_the_marketplace_and_every_change_after_it(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path) as here:
        first, second, third = here.skus[:3]
        await here.count("P000001", 7)
        await here.count("P000002", 5)
        await here.count("P000003", 20)
        await here.map((first, "P000001"), (second, "P000002"))
        await here.map((third, "P000003"), pack=6)
        async with here.service():
            await until(lambda: here.confirmed({first: 7, second: 5, third: 3}))
            await here.count("P000001", 0)
            await here.count("P000003", 5)
            await until(lambda: here.confirmed({first: 0, second: 5, third: 0}))
        assert await here.cases(still_open=False) == []
        numbers = [one for one in await here.said(OfferStockComputed) if one.shop_sku == first]
        assert [one.quantity for one in numbers] == [7, 0]
        sent = await here.said(OfferStockSubmitted)
        proven = await here.said(OfferStockConfirmed)
        assert {(one.shop_sku, one.quantity, one.import_id) for one in proven} == {
            (one.shop_sku, one.quantity, one.import_id) for one in sent
        }
        assert here.mirakl.recorder.violations_by_rule == {}
