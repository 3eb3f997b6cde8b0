"""5. The same order from two pollers, a re-scan, twice on a page, and six hours late in an older version: one order."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import msgspec

from shared.events.orders import OrderCaptured, OrderChanged, OrderCreatedInSfcc
from shared.mirakl.orders import OrdersPage
from tests.services.order_ingestor.kit import ground, hands


async def test_however_often_and_however_late_an_order_is_read_it_is_captured_and_created_once(
    database_url: str, tmp_path: Path
) -> None:
    async with ground("127.0.0.1:1", database_url, tmp_path) as here:
        async with hands(here) as one, hands(here) as other:
            await one.know_all()
            [order_id] = await here.sell()
            pages = [page async for page in one.desk.mirakl[here.market, "2001"].list_orders()]
            [page] = pages
            twice = msgspec.structs.replace(page, orders=page.orders * 2)

            await asyncio.gather(
                one.poll().read_changes(),
                other.poll().read_changes(),
                one.poll().take_in(twice, "poll"),
                other.poll().take_in(page, "backfill"),
            )
            await other.poll().rescan()
            await one.work_off()
            await here.act(order_id, "ship", carrier="DHL", tracking_number="T1")
            await other.poll().read_changes()

        # Everything that was only in a process's memory is gone.
        async with hands(here) as later:
            newest = await here.row(order_id)
            assert newest is not None
            assert newest["state"] == "SHIPPED"
            six_hours_late = OrdersPage(
                orders=page.orders,
                answered_at=(page.answered_at or later.clock.now()) + timedelta(hours=6),
            )
            assert await later.poll().take_in(six_hours_late, "backfill") == 0
            await later.work_off()

            assert await here.row(order_id) == newest
            said = await later.said(order_id)
        assert [type(event) for event in said if isinstance(event, OrderCaptured | OrderCreatedInSfcc)] == [
            OrderCaptured,
            OrderCreatedInSfcc,
        ]
        assert [event.state for event in said if isinstance(event, OrderChanged)][-1] == "SHIPPED"
        assert len(here.sfcc_orders()) == 1
