"""3. SFCC is down for two hours at peak: every order is captured meanwhile and stands in SFCC once afterwards.

Afterwards few calls go out at first, the earliest deadline before all others, and as slowly as SFCC asks.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec

from sandbox.common.recorder import Received
from services.order_ingestor.__main__ import PACE
from shared.breaker import FIRST_IN_FLIGHT
from tests.services.order_ingestor.kit import Ground, ground, until

SPEED = 300.0
"""Two hours are 24 seconds."""
SLOWER = 60.0
"""Five minutes are five seconds: gaps between calls are seen in spite of what a machine takes for one."""
ANSWER_SECONDS = 0.15


async def test_orders_of_a_two_hour_outage_are_captured_during_it_and_created_once_after_it(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, speed=SPEED) as here:
        await here.map_all(2001)
        before = await here.sell(10)
        async with here.service():
            await until(lambda: all_created(here, 10))

            up_at = await break_down(here, 7200)
            # Calls take a while from now on, so that those under way at once are seen.
            for operation in ("createOrders", "getOrder"):
                rule = {"kind": "latency", "operation": operation, "seconds": ANSWER_SECONDS}
                await here.control(here.sfcc_url, "POST", "/faults", rule)
            during: list[str] = []
            for n, days in enumerate((5, 4, 3, 2), 1):
                # Who comes last is to be shipped first.
                here.mirakl.markets["alpha"].config.shipping_seconds = days * 86_400.0
                during += await here.sell(40)
                await until(partial(captured, here, 10 + 40 * n))
            assert here.sfcc.clock.now() < up_at, "captured while SFCC was down"
            assert len(here.sfcc_orders()) == 10

            await until(lambda: all_created(here, 170), 90)

        orders = here.sfcc_orders()
        assert sorted(one["c_miraklOrderId"] for one in orders) == sorted(before + during)
        assert len({one["orderNo"] for one in orders}) == 170
        calls = calls_since(here, up_at)
        assert storms(calls) == [], "few calls at first, more with every answer"
        assert overtaken(here, created(calls)) <= PACE.per_account, "the earliest deadline goes first"
        assert await here.cases() == []
        assert await here.cases(still_open=False) == ["shop-unreachable"], "one question for the whole outage"


async def test_after_an_outage_orders_are_created_as_slowly_as_sfcc_asks(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, speed=SLOWER) as here:
        await here.map_all(2001)
        async with here.service():
            up_at = await break_down(here, 300)
            during = await here.sell(40)
            await until(lambda: captured(here, 40))
            # From 90 on SFCC says THROTTLE, from 80 on WARN.
            await here.control(here.sfcc_url, "PUT", "/load", {"percent": 90})
            await until(lambda: came_in(here, up_at, 12))
            await here.control(here.sfcc_url, "PUT", "/load", {"percent": 85})
            await until(lambda: came_in(here, up_at, 30))
            await here.control(here.sfcc_url, "PUT", "/load", {"percent": 20})
            await until(lambda: all_created(here, 40), 90)

        assert sorted(one["c_miraklOrderId"] for one in here.sfcc_orders()) == sorted(during)
        at = [call.at for call in created(calls_since(here, up_at))]
        throttled, warned = at[11] - at[0], at[29] - at[12]
        # A second apart, then two, four, eight and sixteen; after WARN half as long with every answer.
        assert throttled > timedelta(seconds=90)
        assert warned / 17 < throttled / 11
        assert await here.cases() == []


async def break_down(here: Ground, seconds: float) -> datetime:
    """SFCC cuts every connection for so long; when it is back."""
    await here.control(here.sfcc_url, "POST", "/outage", {"seconds": seconds, "status": 0})
    assert here.sfcc.outage is not None
    return here.sfcc.outage.until


def calls_since(here: Ground, moment: datetime) -> list[Received]:
    """What came in at the orders API, in order."""
    names = {"createOrders", "getOrder"}
    return [call for call in here.sfcc.recorder.calls(limit=10_000) if call.at >= moment and call.operation in names]


def created(calls: list[Received]) -> list[Received]:
    """The calls that created an order."""
    return [call for call in calls if call.operation == "createOrders" and call.status == 201]


def storms(calls: list[Received]) -> list[tuple[int, int]]:
    """Calls that came in while more were under way than earlier answers allow: how many, and how many answers."""
    found = []
    for call in calls:
        answered = sum(other.effect_at is not None and other.effect_at <= call.at for other in calls)
        under_way = sum(other.at <= call.at for other in calls) - answered
        if under_way > FIRST_IN_FLIGHT + answered:
            found.append((under_way, answered))
    return found


def overtaken(here: Ground, calls: list[Received]) -> int:
    """By how many orders with later deadlines an order was overtaken at most."""
    sold = here.mirakl.markets["alpha"].shops[2001].orders
    deadlines = [sold[msgspec.json.decode(call.body)["c_miraklOrderId"]].deadline for call in calls]
    due = [deadline for deadline in deadlines if deadline is not None]
    return max(sum(earlier > one for earlier in due[:n]) for n, one in enumerate(due))


async def came_in(here: Ground, since: datetime, count: int) -> bool:
    return len(created(calls_since(here, since))) >= count


async def captured(here: Ground, count: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) = $1 FROM orders WHERE version > 0", count))


async def all_created(here: Ground, count: int) -> bool:
    return await here.stages() == {"created": count}
