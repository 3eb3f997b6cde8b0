"""4. A crash between SFCC's create and the note of its number: exactly one order each, after twenty kills."""

from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

from tests.services.order_ingestor.kit import SECRETS, Ground, ground, hands, until
from tests.services.order_ingestor.process import work

KILLS = 20
ORDERS = 140


async def test_twenty_kills_between_create_and_note_leave_one_order_each(database_url: str, tmp_path: Path) -> None:
    # Children are forked from a process that has everything loaded: a life costs milliseconds.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.services.order_ingestor.process"])
    environment = {"BRIDGE_CONFIG": str(tmp_path / "bridge.toml")} | SECRETS
    async with ground("127.0.0.1:1", database_url, tmp_path) as here, hands(here) as by_hand:
        await by_hand.know_all()
        ids = [order_id for _ in range(2) for order_id in await here.sell(ORDERS // 2)]
        await by_hand.poll().read_changes()
        killed_in_between = 0
        for _ in range(KILLS):
            life = processes.Process(target=work, args=(environment,), daemon=True)
            life.start()
            await until(lambda: more_in_sfcc_than_noted(here))
            life.kill()
            await asyncio.to_thread(life.join)
            killed_in_between += await more_in_sfcc_than_noted(here)

        await by_hand.work_off(60.0)

        assert killed_in_between == KILLS
        orders = here.sfcc_orders()
        assert sorted(one["c_miraklOrderId"] for one in orders) == sorted(ids)
        assert len(orders) == ORDERS
        noted = await here.database.fetch("SELECT order_id, sfcc_order_no FROM orders WHERE stage = 'created'")
        assert {row["order_id"]: row["sfcc_order_no"] for row in noted} == {
            one["c_miraklOrderId"]: one["orderNo"] for one in orders
        }
        calls = (await here.control(here.sfcc_url, "GET", "/received"))["calls"]
        creates = [one for one in calls if one["operation"] == "createOrders"]
        assert len(creates) >= ORDERS
        assert not [one for one in creates if one["status"] == 400], "each was looked up before it was repeated"
        assert await here.cases() == []


async def more_in_sfcc_than_noted(here: Ground) -> bool:
    """Whether an order stands in SFCC whose number nobody has noted."""
    noted = await here.database.fetchval("SELECT count(*) FROM orders WHERE stage = 'created'")
    return len(here.sfcc.sites["MainSite"].orders) > int(noted)
