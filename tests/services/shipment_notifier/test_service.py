"""From the warehouse's parcel to the marketplace that shows it, on real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from services.shipment_notifier import store
from services.shipment_notifier.__main__ import desk_of
from services.shipment_notifier.desk import Ship
from services.shipment_notifier.model import Order, Parcel
from shared.cases import open_case
from shared.clock import BusinessClock
from shared.errors import Refused, Transient
from shared.events.control import OperatorDecidedHold
from shared.events.shipments import (
    DispatchedLine,
    ParcelDispatched,
    ParcelTracked,
    ShipmentAnnounced,
    ShipmentTrackingUpdated,
)
from shared.http import open_session
from shared.outbox import Outbox
from shared.topics import NOTIFIER
from tests.services.order_ingestor.kit import SECRETS
from tests.services.shipment_notifier.kit import Room, until


async def test_parcels_are_announced_and_proven_on_both_kinds_of_platform(here: Room) -> None:
    [whole] = await here.orders()
    [apart] = await here.orders(shop=3001)

    async with here.service():
        await here.ship(whole, carrier=" dpd ")
        await here.ship(apart, carrier="LaPoste")
        await until(lambda: here.all_announced(whole, apart))

        said = [one for one in await here.said("shipment-notices") if isinstance(one, ShipmentAnnounced)]

    assert here.at_mirakl(whole).state == here.at_mirakl(apart).state == "SHIPPED"
    told = {one.order_id: one for one in said}
    assert (told[whole].operation, told[whole].carrier_code) == ("OR24", "DPD")
    assert (told[apart].operation, told[apart].carrier_code) == ("ST01", "COLIS")
    assert told[apart].shipment_id is not None
    assert all(one.order_complete and one.tracking_number == f"T-{one.order_id}" for one in said)
    assert len(said) == 2
    assert [one["code"] for one in await here.cases(still_open=False)] == []


async def test_nothing_goes_without_tracking_unless_a_person_says_so_and_late_tracking_is_relayed(here: Room) -> None:
    [whole, waits] = await here.orders(2)
    [apart] = await here.orders(shop=3001)
    ids = (whole, apart)

    async with here.service():
        for order_id in (whole, waits, apart):
            await here.ship(order_id, tracking_number="")
        await until(lambda: here.held("no-tracking", whole, waits, apart))
        assert [one["code"] for one in await here.cases()] == ["shipment-without-tracking"] * 3
        assert not await here.calls("OR23", "OR24", "ST01")

        for order_id in ids:
            await here.ground.put(approval(here, order_id))
        await until(lambda: here.all_announced(*ids))
        assert [one.told for order_id in ids for one in await here.parcels(order_id)] == [None, None]

        for order_id in (whole, waits, apart):
            await here.ship(order_id, shipment_id="me", tracking_number=f"LATE-{order_id}")
        await until(lambda: here.all_announced(waits))
        await until(lambda: shown(here, whole, apart))
        said = [one for one in await here.said("shipment-notices") if isinstance(one, ShipmentTrackingUpdated)]

    assert {(one.operation, one.reason, one.tracking_number) for one in said} == {
        ("OR23", "late-tracking", f"LATE-{whole}"),
        ("ST23", "late-tracking", f"LATE-{apart}"),
    }
    tracking = here.at_mirakl(whole).tracking
    assert tracking is not None
    assert tracking.number == f"LATE-{whole}"
    assert await here.cases() == []


async def shown(here: Room, *order_ids: str) -> bool:
    found = [one for order_id in order_ids for one in await here.parcels(order_id)]
    return all(one.told is not None and one.telling is None and one.sent_at is None for one in found)


def approval(here: Room, order_id: str, *, approved: bool = True) -> OperatorDecidedHold:
    name = here.several if order_id.startswith("BETA") else here.ground.market
    return OperatorDecidedHold(
        about=f"hold/{NOTIFIER}/{name}/{order_id}",
        by="u-1",
        role="operations",
        at=here.ground.mirakl.clock.now(),
        service=NOTIFIER,
        case_id="c-1",
        approved=approved,
    )


async def test_an_outside_producers_parcel_arrives_at_the_marketplace(here: Room) -> None:
    [order_id] = await here.orders()
    line = here.at_mirakl(order_id).lines[0]
    now = here.ground.mirakl.clock.now()
    which = {"marketplace": here.ground.market, "order_id": order_id, "parcel_id": "WMS-1"}

    async with here.service():
        lines = tuple(
            DispatchedLine(shop_sku=one.offer_sku, quantity=one.quantity) for one in here.at_mirakl(order_id).lines
        )
        await here.ground.put(ParcelDispatched(**which, dispatched_at=now, lines=lines, carrier="DHL"))
        await until(lambda: here.held("no-tracking", order_id))
        await here.ground.put(ParcelTracked(**which, tracking_number="JD1", tracked_at=now))
        await until(lambda: here.all_announced(order_id))

    assert line.state == "SHIPPED"
    tracking = here.at_mirakl(order_id).tracking
    assert tracking is not None
    assert (tracking.carrier_code, tracking.number) == ("DHL", "JD1")


async def test_observing_announces_nothing_and_says_what_waits(here: Room) -> None:
    [watched] = await here.ground.sell(shop=2002)
    now = here.ground.mirakl.clock.now()

    async with here.service():
        await here.ground.put(
            ParcelDispatched(
                marketplace=here.ground.market, order_id=watched, parcel_id="p", dispatched_at=now,
                carrier="DPD", tracking_number="1",
            )
        )  # fmt: skip
        await until(lambda: here.held("observe-mode", watched))

    assert not await here.calls("OR23", "OR24", "ST01")
    assert here.at_mirakl(watched).state == "SHIPPING"


async def test_a_parcel_of_a_cancelled_order_is_a_question_and_one_that_is_unpaid_waits(here: Room) -> None:
    [cancelled, unpaid] = await here.ground.sell(2, state="WAITING_ACCEPTANCE")
    now = here.ground.mirakl.clock.now()

    async with here.service():
        await here.ground.act(cancelled, "cancel")
        for order_id in (cancelled, unpaid):
            await here.ground.put(
                ParcelDispatched(
                    marketplace=here.ground.market, order_id=order_id, parcel_id="p", dispatched_at=now,
                    carrier="DPD", tracking_number="1",
                )
            )  # fmt: skip
        await until(lambda: here.case("parcel-of-cancelled-order"))
        await until(lambda: here.held("order-not-shipping", unpaid))
        await here.ground.put(approval(here, cancelled, approved=False))
        await until(lambda: no_cases(here))
        assert [one.stage for one in await here.parcels(cancelled)] == ["left"]

        await here.ground.act(unpaid, "accept")
        await until(lambda: here.all_announced(unpaid))

    assert here.at_mirakl(unpaid).state == "SHIPPED"
    assert here.at_mirakl(cancelled).state == "CANCELED"


async def no_cases(here: Room) -> bool:
    return not await here.cases()


@pytest.mark.parametrize("operation", ["OR23", "ST01"])
async def test_a_refused_announcement_waits_for_something_new(here: Room, operation: str) -> None:
    [order_id] = await here.orders(shop=2001 if operation == "OR23" else 3001)
    fault = {"kind": "status", "operation": operation, "count": 1, "status": 400, "body": '{"message": "no"}'}
    await here.ground.control(here.ground.mirakl_url, "POST", "/faults", fault)

    async with here.service():
        await here.ship(order_id)
        await until(lambda: here.held("refused-by-marketplace", order_id))
        assert [one["code"] for one in await here.cases()] == ["shipment-refused"]
        assert here.at_mirakl(order_id).state == "SHIPPING"

        await here.ship(order_id, shipment_id="me", tracking_number="BETTER")
        await until(lambda: here.all_announced(order_id))

    assert await here.cases() == []
    assert [one.told.tracking_number for one in await here.parcels(order_id) if one.told] == ["BETTER"]


async def test_many_lost_answers_are_looked_up_together(here: Room) -> None:
    ids = await here.orders(8)
    fault = {"kind": "cut_after_effect", "operation": "OR24", "count": len(ids)}
    await here.ground.control(here.ground.mirakl_url, "POST", "/faults", fault)

    async with here.service():
        for order_id in ids:
            await here.ship(order_id)
        await until(lambda: here.all_announced(*ids))

    by_id = [one for one in await here.calls("OR11") if "order_ids" in one["query"]]
    assert len(by_id) < len(ids) / 2
    assert len(await here.calls("OR24")) == len(ids)


async def test_what_a_shop_is_owed_waits_while_it_is_only_observed(here: Room) -> None:
    [order_id] = await here.orders()
    shops = {(one.marketplace_name, one.shop_id): one for one in here.settings.shops}
    key = here.ground.market, "2001"
    watched = replace(shops[key], shop=msgspec.structs.replace(shops[key].shop, mode="observe"))
    clock = BusinessClock()
    await clock.synchronize(here.database)
    async with open_session() as session:
        desk = desk_of(here.database, clock, here.settings, session)
        desk.shops = shops | {key: watched}
        with pytest.raises(Transient, match="observes"):
            await desk.ship_order(Ship(marketplace=key[0], shop=key[1], order_id=order_id), None)  # type: ignore[arg-type]
        gone = Ship(marketplace=key[0], shop="gone", order_id="gone")
        for perform in (desk.ship_order, desk.is_shipped):
            with pytest.raises(Refused, match="not known here any more"):
                await perform(gone, None)  # type: ignore[arg-type]
    assert await here.calls("OR24") == []


async def test_orders_that_stay_open_do_not_hide_those_after_them_and_what_is_shown_closes_its_question(
    here: Room,
) -> None:
    market, now = here.ground.market, here.ground.mirakl.clock.now()
    sent = Parcel(parcel_id="p", dispatched_at=now, stage="sent", sent_at=now)
    orders = [Order(marketplace=market, order_id=f"O-{n}", shop="2001", parcels=(sent,)) for n in range(3)]
    clock = BusinessClock()
    await clock.synchronize(here.database)
    outbox = Outbox(here.database, NOTIFIER, clock)
    async with open_session() as session, outbox.transaction() as tx:
        await store.claim(tx, [(market, one.order_id) for one in orders])
        await store.write(tx, orders, {}, {})
        await open_case(tx, "shipment-not-shown", about=f"order/{orders[0].key}", marketplace=market, shop="2001")

    async def page(after: str) -> list[str]:
        return [one.order_id for one in await store.still_open(here.database, market, "2001", after, limit=2)]

    assert [await page(""), await page("O-1")] == [["O-0", "O-1"], ["O-2"]]
    async with open_session() as session, outbox.transaction() as tx:
        desk = desk_of(here.database, clock, here.settings, session)
        shown = structs.replace(orders[0], parcels=(structs.replace(sent, stage="announced", sent_at=None),))
        await desk.go_on(tx, [shown])
    assert await here.cases() == []


async def test_parcels_do_not_wait_in_silence_for_a_list_that_was_never_read(here: Room) -> None:
    fault = {"kind": "status", "operation": "SH21", "count": 9, "status": 503}
    await here.ground.control(here.ground.mirakl_url, "POST", "/faults", fault)
    [order_id] = await here.orders()

    async with here.service():
        await here.ship(order_id)
        await until(lambda: here.case("carriers-unknown"))
        await until(lambda: here.all_announced(order_id))
        await until(lambda: no_cases(here))


async def test_a_kill_between_a_call_and_its_note_makes_no_second_dispatch(here: Room, tmp_path: Path) -> None:
    [whole] = await here.orders()
    [apart] = await here.orders(shop=3001)
    for operation in ("OR24", "ST01"):
        fault = {"kind": "slow_body", "operation": operation, "count": 1, "seconds": 3_600.0}
        await here.ground.control(here.ground.mirakl_url, "POST", "/faults", fault)
    environment = os.environ | {"BRIDGE_CONFIG": str(tmp_path / "bridge.toml"), "HEALTH_PORT": "0"} | SECRETS
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.shipment_notifier", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        await here.ship(whole)
        await here.ship(apart)
        await until(lambda: both_shipped(here, whole, apart))
    finally:
        process.kill()
        await process.wait()

    async with here.service():
        await until(lambda: here.all_announced(whole, apart), 90.0)

    assert len(here.at_mirakl(apart).shipments) == 1
    assert len(await here.calls("ST01")) == 1
    assert [one["code"] for one in await here.cases(still_open=False)] == ["obligation-unknown"]
    assert await here.cases() == []


async def both_shipped(here: Room, *order_ids: str) -> bool:
    return all(here.at_mirakl(order_id).state == "SHIPPED" for order_id in order_ids)
