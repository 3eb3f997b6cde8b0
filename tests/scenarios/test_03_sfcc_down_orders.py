"""3. SFCC is down for two hours at peak: every order is captured meanwhile and stands in SFCC once afterwards."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path

from tests.services.order_ingestor.kit import Ground, ground, until

SPEED = 600.0
"""Two hours are twelve seconds."""


async def test_orders_of_a_two_hour_outage_are_captured_during_it_and_created_once_after_it(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, speed=SPEED) as here:
        await here.map_all(2001)
        before = await here.sell(10)
        async with here.service():
            await until(lambda: all_created(here, 10))

            await here.control(here.sfcc_url, "POST", "/outage", {"seconds": 7200, "status": 0})
            down_until = here.sfcc.clock.now().timestamp() + 7200
            during: list[str] = []
            for count in (20, 30, 40, 50):
                during += await here.sell(10)
                await until(partial(captured, here, count))
            assert here.sfcc.clock.now().timestamp() < down_until, "captured while SFCC was down"
            assert len(here.sfcc_orders()) == 10

            await until(lambda: all_created(here, 50), 90)

        orders = here.sfcc_orders()
        assert sorted(one["c_miraklOrderId"] for one in orders) == sorted(before + during)
        assert len({one["orderNo"] for one in orders}) == 50
        first = min(orders[10:], key=lambda one: datetime.fromisoformat(one["creationDate"]))
        assert first["c_miraklOrderId"] in during[:10], "the earliest deadline goes first"
        assert await here.cases() == []
        assert await here.cases(still_open=False) == ["shop-unreachable"], "one question for the whole outage"


async def captured(here: Ground, count: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) = $1 FROM orders WHERE version > 0", count))


async def all_created(here: Ground, count: int) -> bool:
    return await here.stages() == {"created": count}
