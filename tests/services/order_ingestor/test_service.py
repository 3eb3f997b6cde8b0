"""From the marketplace's page to the SFCC order and back, on real Kafka and PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from shared.clock import monotonic
from shared.events.fields import LineUnits
from shared.events.shipments import ShipmentAnnounced
from tests.services.order_ingestor.kit import Ground, ground, until


@pytest.fixture
async def here(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(kafka_bootstrap, database_url, tmp_path) as made:
        yield made


async def test_an_order_to_be_shipped_stands_in_sfcc_once_with_equal_total_and_its_number_at_the_marketplace(
    here: Ground,
) -> None:
    await here.map_all()
    ids = await here.sell(5) + await here.sell(2, shop=3001)

    async with here.service(), here.service():  # two replicas: one of them reads, both create
        await until(lambda: linked(here, 7))

    for order_id in ids:
        net = order_id.startswith("BETA")
        made = here.mirakl.markets["beta" if net else "alpha"].find_order(order_id)
        assert made is not None
        stands = here.sfcc_order_of(order_id, "NetSite" if net else "MainSite")
        taxes = sum((t.amount for line in made.lines for t in (*line.taxes, *line.shipping_taxes)), Decimal(0))
        paid = sum((line.price + line.shipping_price for line in made.lines), taxes if net else Decimal(0))
        assert Decimal(str(stands["orderTotal"])) == paid
        assert made.reference_for_seller == stands["orderNo"] == f"{here.market}{'-net' if net else ''}-{order_id}"
        assert stands["channelType"] == "marketplace"
        assert stands["c_marketplaceMarketingOptOut"] is True
        assert stands["c_marketplaceEmail"] == made.notification_email
    assert await here.cases(still_open=False) == []


async def test_what_others_say_on_their_topics_moves_the_order_on(here: Ground) -> None:
    [order_id] = await here.sell(lines=[{"sku": "SKU-000001", "quantity": 1}])
    async with here.service():
        await until(lambda: is_in(here, order_id, "held"))
        await here.put(here.mapped("SKU-000001", "P000001"))
        await until(lambda: is_in(here, order_id, "created"))
        await here.put(sent(here, order_id, complete=True))
        await until(lambda: is_shipped(here, order_id))

    assert await here.cases() == []
    assert await here.cases(still_open=False) == ["order-sku-unmapped"]


async def test_what_is_said_of_orders_while_it_is_away_is_shown_all_the_same(here: Ground) -> None:
    await here.map_all(2001)
    first, second = await here.sell(2)
    async with here.service():
        await until(lambda: is_in(here, first, "created"))
        await until(lambda: is_in(here, second, "created"))
    # Read at once when it comes back; of the first, the parcel that was told last is not the one that came last.
    await here.put(sent(here, first, complete=True))
    await here.put(sent(here, first, complete=False))
    await here.put(sent(here, second, complete=False))
    await here.put(sent(here, "UNKNOWN", complete=True))
    async with here.service():
        await until(lambda: is_shipped(here, first))
        await until(lambda: is_shipped(here, second, "part_shipped"))
    assert await here.cases(still_open=False) == []


def sent(here: Ground, order_id: str, *, complete: bool) -> ShipmentAnnounced:
    now = here.mirakl.clock.now()
    return ShipmentAnnounced(
        marketplace=here.market,
        shop="2001",
        order_id=order_id,
        parcel_ids=("p1",),
        operation="OR24" if complete else "ST01",
        lines=(LineUnits(line_id=f"{order_id}-1", quantity=1),),
        order_complete=complete,
        announced_at=now,
        proven_at=now,
    )


async def test_a_mapping_that_found_nobody_waiting_is_noticed_within_a_minute(here: Ground) -> None:
    [order_id] = await here.sell(lines=[{"sku": "SKU-000001", "quantity": 1}])
    async with here.service():
        await until(lambda: is_in(here, order_id, "held"))
        await here.database.execute(
            "INSERT INTO offer_products VALUES ($1, '2001', 'SKU-000001', 1, 'P000001', 1)", here.market
        )
        await until(lambda: is_in(here, order_id, "created"))


async def test_what_was_put_right_for_sfcc_is_sent_when_the_service_looks_at_open_questions_again(here: Ground) -> None:
    await here.map_all(2001)
    [order_id] = await here.sell(workflow="PAY_ON_SHIPMENT")
    fault = {"kind": "status", "operation": "updateOrder", "status": 400, "body": "{}", "count": 1}
    await here.control(here.sfcc_url, "POST", "/faults", fault)
    async with here.service():
        await until(lambda: is_in(here, order_id, "created"))
        await here.act(order_id, "cancel")
        await until(lambda: asks(here, "sfcc-order-not-updated"))

    async with here.service():  # at its start, and every hour
        await until(lambda: asks(here))

    assert here.sfcc_order_of(order_id)["status"] == "cancelled"


async def asks(here: Ground, *codes: str) -> bool:
    return await here.cases() == list(codes)


async def is_in(here: Ground, order_id: str, stage: str) -> bool:
    row = await here.row(order_id)
    return row is not None and bool(row["stage"] == stage)


async def is_shipped(here: Ground, order_id: str, status: str = "shipped") -> bool:
    return bool(here.sfcc_order_of(order_id)["shippingStatus"] == status)


async def linked(here: Ground, count: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) = $1 FROM orders WHERE linked_at IS NOT NULL", count))


async def test_it_stops_at_once_although_a_poll_waits_for_its_slot(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, speed=1.0) as here:
        async with here.service():
            await until(lambda: was_read(here))
            asked = monotonic()
        assert monotonic() - asked < 10.0


async def was_read(here: Ground) -> bool:
    """Both readings of a shop have begun, and the second waits for its minute."""
    calls = here.mirakl.recorder.calls_by_operation
    return calls["OR11"] >= 3 and bool(await here.database.fetchval("SELECT count(*) FROM bridge.call_waiters"))
