"""11. A carrier is renamed: the list warns, an unknown name is a question, one answer sends all that wait, in order.

And of two parcels the late one's lines are not announced early, and a lost answer makes no second dispatch.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.embedded.server import blocking
from shared.clock import jump
from shared.database import create_database
from shared.events.shipments import ParcelDispatched, ShipmentAnnounced, ShipmentHeld
from shared.obligations import Pace
from tests.services.shipment_notifier.kit import Room, room, until

_numbers = itertools.count(1)
ONE_BY_ONE = Pace(workers=1, per_account=1)


@pytest.fixture
async def here(kafka_bootstrap: str, postgres_url: str, worker_tag: str, tmp_path: Path) -> AsyncIterator[Room]:
    url = str(blocking(create_database(postgres_url, f"scenario_11_{worker_tag}_{next(_numbers)}")))
    async with room(kafka_bootstrap, url, tmp_path) as made:
        yield made


async def rename(here: Room, place: str) -> None:
    change = {"code": "DPD", "new_code": "DPD-UK", "label": "DPD UK Ltd", "standard_code": "DPDGB"}
    await here.ground.control(here.ground.mirakl_url, "POST", f"/carriers/{place}/rename", change)


async def test_a_renamed_carrier_is_asked_about_at_once_and_one_answer_sends_all_that_wait_in_order(
    here: Room,
) -> None:
    ids = await here.orders(4)
    before, waiting = ids[0], ids[1:]

    async with here.service(ONE_BY_ONE):
        await here.ship(before, carrier="DPD")
        await until(lambda: here.all_announced(before))
        assert await here.cases() == []

        # The list is read once a day, and what is in use is missed before the next parcel.
        await rename(here, "alpha")
        await jump(here.database, timedelta(days=1))
        await until(lambda: here.case("carrier-gone"))
        [gone] = await here.cases()
        assert gone["cause"] == f"mapping/{here.ground.market}/carrier/dpd"
        assert "gone: DPD (DPD)" in gone["facts"]["changes of the list"]

        # The warehouse writes the new name in its own way.
        for order_id in reversed(waiting):
            await here.ship(order_id, carrier="dpd uk ")
        await until(lambda: here.held("unmapped-carrier", *waiting))
        [asked] = [one for one in await here.cases() if one["code"] == "carrier-unmapped"]
        assert asked["cause"] == f"mapping/{here.ground.market}/carrier/dpd uk"
        assert asked["facts"]["valid"].splitlines()[0] == "DPD-UK (DPD UK Ltd)"
        assert len(asked["facts"]["valid"].splitlines()) == 4

        await here.map("dpd uk ", "DPD-UK")
        await here.map("DPD", "DPD-UK")
        await until(lambda: here.all_announced(*ids))
        assert await here.cases() == []

        notices = await here.said("shipment-notices")
        dispatches = await here.said("dispatches")

    shipped = [one["path"].split("/")[-2] for one in await here.calls("OR24")]
    assert shipped == [before, *reversed(waiting)], "the parcel that left first is told first"
    trackings = [here.at_mirakl(order_id).tracking for order_id in waiting]
    assert [one and one.carrier_code for one in trackings] == ["DPD-UK"] * 3
    assert [one.carrier for one in dispatches if isinstance(one, ParcelDispatched)].count("dpd uk") == len(waiting)
    held = [one for one in notices if isinstance(one, ShipmentHeld) and one.reason == "unmapped-carrier"]
    assert sorted(one.order_id for one in held) == sorted(waiting)
    assert {one.case_id for one in held} == {asked["case_id"]}
    announced = [one for one in notices if isinstance(one, ShipmentAnnounced)]
    assert sorted(one.order_id for one in announced) == sorted(ids)


async def test_the_first_refusal_reads_the_list_again_and_asks_with_it_before_the_day_is_over(here: Room) -> None:
    ids = await here.orders(5)
    before, waiting = ids[0], ids[1:]

    async with here.service(ONE_BY_ONE):
        await here.ship(before, carrier="DPD")
        await until(lambda: here.all_announced(before))
        await until(lambda: here.lists_read(2))

        # The list of minutes ago still has the old code, so parcels are sent with it, and refused.
        await rename(here, "alpha")
        for order_id in reversed(waiting):
            await here.ship(order_id, carrier="DPD")
        await until(lambda: here.case("carrier-gone"))
        await until(lambda: here.held("unmapped-carrier", *waiting))
        [asked] = await here.cases()
        assert asked["cause"] == f"mapping/{here.ground.market}/carrier/dpd"
        assert asked["facts"]["valid"].splitlines()[0] == "DPD-UK (DPD UK Ltd)"
        assert "gone: DPD (DPD)" in asked["facts"]["changes of the list"]
        assert {one["code"] for one in await here.cases(still_open=False)} <= {"carrier-gone", "shipment-refused"}
        assert await here.lists_read(3), "once for all parcels, by the shop that has not asked today"

        await here.map("DPD", "DPD-UK")
        await until(lambda: here.all_announced(*ids))
        assert await here.cases() == []

    shipped = [one["path"].split("/")[-2] for one in await here.calls("OR24")]
    assert shipped == [before, *reversed(waiting)], "the parcel that left first is told first"
    trackings = [here.at_mirakl(order_id).tracking for order_id in waiting]
    assert [one and one.carrier_code for one in trackings] == ["DPD-UK"] * 4


async def test_an_unknown_name_is_looked_for_on_the_list_as_it_is_now_before_a_person_is_asked(here: Room) -> None:
    renamed, strange, again = await here.orders(3)
    async with here.service():
        await until(lambda: here.list_is_old("alpha"))
        await rename(here, "alpha")
        await here.ship(renamed, carrier="dpd uk ltd")
        await until(lambda: here.all_announced(renamed))
        assert await here.cases(still_open=False) == []

        # Both shops have asked today: the question comes with the list that is known.
        await until(lambda: here.list_is_old("alpha"))
        for order_id in (strange, again):
            await here.ship(order_id, carrier="Correos")
        await until(lambda: here.held("unmapped-carrier", strange, again))
        [asked] = await here.cases()
        assert asked["code"] == "carrier-unmapped"
        assert "DPD-UK (DPD UK Ltd)" in asked["facts"]["valid"].splitlines()
        assert await here.lists_read(3)

        # The next day's list has it.
        await here.ground.control(
            here.ground.mirakl_url, "PUT", "/carriers/alpha", [{"code": "CORREOS", "label": "Correos"}]
        )
        await jump(here.database, timedelta(days=1))
        await until(lambda: here.all_announced(strange, again))
        assert [one["code"] for one in await here.cases()] == ["carrier-gone"]


async def test_of_two_parcels_the_late_ones_lines_are_not_announced_early(here: Room) -> None:
    whole, apart = "alpha", "beta"
    orders = {}
    for place, shop in ((whole, 2001), (apart, 3001)):
        skus = list(here.ground.mirakl.markets[place].shops[shop].offers)[:2]
        lines = [{"sku": sku, "quantity": 1} for sku in skus]
        [orders[place]] = await here.orders(1, shop, lines=lines)

    async with here.service():
        for order_id in orders.values():
            await here.ship(order_id, product_ids=["P000001"], tracking_number="FIRST")
        await until(lambda: here.held("order-incomplete", orders[whole]))
        await until(lambda: here.all_announced(orders[apart]))
        assert here.at_mirakl(orders[whole]).state == here.at_mirakl(orders[apart]).state == "SHIPPING"
        assert [line.state for line in here.at_mirakl(orders[whole]).lines] == ["SHIPPING", "SHIPPING"]
        assert [line.state for line in here.at_mirakl(orders[apart]).lines] == ["SHIPPED", "SHIPPING"]

        for order_id in orders.values():
            await here.ship(order_id, tracking_number="SECOND")
        await until(lambda: here.two_announced(*orders.values()))
        said = [one for one in await here.said("shipment-notices") if isinstance(one, ShipmentAnnounced)]

    assert here.at_mirakl(orders[whole]).state == here.at_mirakl(orders[apart]).state == "SHIPPED"
    assert [len(one.parcel_ids) for one in said if one.operation == "OR24"] == [2]
    assert [one.order_complete for one in said if one.operation == "ST01"] == [False, True]
    assert await here.cases(still_open=False) == []


@pytest.mark.parametrize("kind", ["cut_after_effect", "late_effect"])
async def test_a_lost_answer_makes_no_second_dispatch(here: Room, kind: str) -> None:
    [whole] = await here.orders()
    [apart] = await here.orders(shop=3001)
    for operation in ("OR24", "ST01"):
        fault = {"kind": kind, "operation": operation, "count": 1, "seconds": 40.0}
        await here.ground.control(here.ground.mirakl_url, "POST", "/faults", fault)

    async with here.service():
        await here.ship(whole)
        await here.ship(apart)
        await until(lambda: here.all_announced(whole, apart))
        said = [one for one in await here.said("shipment-notices") if isinstance(one, ShipmentAnnounced)]

    assert len(here.at_mirakl(apart).shipments) == 1
    assert len(await here.calls("ST01")) == 1
    assert sorted(one.order_id for one in said) == sorted([whole, apart])
    assert here.at_mirakl(whole).state == here.at_mirakl(apart).state == "SHIPPED"
    assert await here.cases(still_open=False) == []
