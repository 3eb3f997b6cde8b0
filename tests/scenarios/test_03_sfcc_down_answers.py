"""3. SFCC is down for two hours at peak: what is proven is answered, what is not waits with its clock, and stock that
nobody can read keeps more back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from services.inventory_publisher.__main__ import MIGRATIONS as STOCK_MIGRATIONS
from services.inventory_publisher.__main__ import serve as publish
from shared.database import migrate
from shared.events.decisions import OrderDecided
from tests.services.acceptor.kit import Answering, answering, until

SPEED = 20.0
"""An hour is three minutes: however slow the machine, what is fresh at a step of the test is still fresh at its end."""
SHOP = "buffer = 2\nstock_proof_seconds = 3600"
MARKETPLACE = "alert_percent = [2]"
"""Of 48 hours: an order that has waited for 58 minutes is announced."""


async def test_orders_are_accepted_in_the_outage_only_on_proven_stock_and_each_exactly_once(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    more = {"speed": SPEED, "shop": SHOP, "marketplace": MARKETPLACE}
    async with answering(kafka_bootstrap, database_url, tmp_path, **more) as here:
        plenty, scarce, old, some = skus = here.skus()[:4]
        products = ["P000001", "P000002", "P000003", "P000004"]
        for sku, product, units in zip(skus, products, (50, 5, 50, 8), strict=True):
            await here.count_stock(product, units)
            await here.map((sku, product))
        async with here.ingestor(), publisher(here):
            async with here.acceptor():
                await until(lambda: shows(here, {plenty: 48, scarce: 3, old: 48, some: 6}))
                # What has not changed for hours is as true as the last read that did not say otherwise.
                await here.jump(timedelta(hours=3))
                await until(lambda: read_just_now(here))
                await down(here, 1_000_000)

                # Fresh stock is proof where it leaves twice the buffer: of 50 it does, of 5 it does not.
                proven = await here.sell((plenty, 2), count=3)
                [short] = await here.sell((scarce, 1))
                await until(lambda: stages(here, {"open": 4}))
                await here.jump(timedelta(minutes=6))
                await until(lambda: stages(here, {"accepted": 3, "open": 1}))
                await until(lambda: waits_for_stock(here, short))
                await until(lambda: shows(here, {plenty: 42, scarce: 2}))

            async with here.acceptor():
                # Nobody has read the stock for a quarter of an hour: the buffer counts twice, and nothing is emptied.
                await here.jump(timedelta(minutes=14))
                await until(lambda: shows(here, {plenty: 40, scarce: 1, old: 46, some: 4}))
                assert await stale_cases(here) == ["open"]
                # Twice for the shelf is twice for the answer: it is not doubled once more.
                proven += await here.sell((some, 1))
                await until(lambda: stages(here, {"accepted": 3, "open": 2}))
                await here.jump(timedelta(minutes=6))
                await until(lambda: stages(here, {"accepted": 4, "open": 1}))

                # An hour later the figure is too old, however much there was.
                await here.jump(timedelta(minutes=60))
                [late] = await here.sell((old, 1))
                await until(lambda: stages(here, {"accepted": 4, "open": 2}))
                await here.jump(timedelta(minutes=40))
                await until(lambda: waits_for_stock(here, late))
                await until(lambda: announced(here, short))
                assert await here.stages() == {"accepted": 4, "open": 2}
                assert len(here.calls("OR21")) == 4

                await down(here, 0)
                await here.jump(timedelta(minutes=10))  # What was closed off is tried again.
                await until(lambda: stages(here, {"accepted": 6}))
                await until(lambda: shows(here, {plenty: 42, scarce: 2, old: 47, some: 5}))
                await until(lambda: settled(here))

            # Accepted on a figure, and reserved once that was possible.
            assert [here.reserved(product) for product in products] == [6, 1, 1, 1]
            for order_id in (*proven, short, late):
                found = await here.told(order_id, "order.accepted.v1")
                [decided] = [event for event in found if isinstance(event, OrderDecided)]
                proof = ("ats", "ats-proven") if order_id in proven else ("reservation", "reserved")
                assert (decided.decided_by, decided.proof, decided.lines[0].reason) == ("rules", *proof)

        shop = here.ground.mirakl.markets["alpha"].shops[2001]
        assert (shop.counts["accepted"], shop.counts["doubled_decisions"]) == (6, 0)
        assert len(here.calls("OR21")) == 6
        assert await here.ground.cases() == []
        assert await stale_cases(here) == ["closed"]


@asynccontextmanager
async def publisher(here: Answering) -> AsyncIterator[None]:
    """inventory-publisher runs beside the two others until the block ends."""
    settings = replace(here.ground.settings, connections=6)
    await migrate(settings.database_url, "inventory_publisher", STOCK_MIGRATIONS)
    stop = asyncio.Event()
    running = asyncio.create_task(publish(settings, stop, telemetry=False))
    try:
        yield
    finally:
        stop.set()
        await running


async def down(here: Answering, seconds: float) -> None:
    await here.ground.control(here.ground.sfcc_url, "POST", "/outage", {"seconds": seconds, "status": 0})


async def stages(here: Answering, wanted: dict[str, int]) -> bool:
    return await here.stages() == wanted


async def shows(here: Answering, wanted: Mapping[str, int]) -> bool:
    """Whether the marketplace shows these quantities."""
    offers = here.ground.mirakl.markets["alpha"].shops[2001].offers
    return all(offers[sku].quantity == quantity for sku, quantity in wanted.items())


async def stale_cases(here: Answering) -> list[str]:
    rows = await here.database.fetch(
        "SELECT closed_at FROM inventory_publisher.cases WHERE code = 'stock-source-stale'"
    )
    return ["open" if row["closed_at"] is None else "closed" for row in rows]


async def read_just_now(here: Answering) -> bool:
    read_at = await here.database.fetchval("SELECT min(read_at) FROM inventory_publisher.stock_sources")
    return bool(await here.now() - read_at < timedelta(minutes=2))


async def waits_for_stock(here: Answering, order_id: str) -> bool:
    """Whether an order was looked at without OCI's answer, and nothing proved its stock."""
    return bool(await here.database.fetchval("SELECT waits_for <> '{}' FROM orders WHERE order_id = $1", order_id))


async def announced(here: Answering, order_id: str) -> bool:
    """Whether a step of the ladder asks for somebody about this order."""
    found = await here.database.fetchval(
        "SELECT count(*) FROM cases WHERE code = 'acceptance-late' AND closed_at IS NULL AND about LIKE '%' || $1",
        order_id,
    )
    return bool(found)


async def settled(here: Answering) -> bool:
    """Nothing is promised without a reservation, nothing is asked, and stock is fresh."""
    promised = await here.database.fetchval("SELECT count(*) FROM promises")
    return not promised and not await here.cases() and await stale_cases(here) == ["closed"]
