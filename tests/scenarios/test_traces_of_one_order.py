"""One order from the poll that finds it to the payout that pays it: its spans, as they are exported, hang together."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from bridge.fleet import Fleet, environment_with
from shared.clock import jump
from shared.database import Database
from shared.topics import ACCEPTOR, CONTROL_ROOM, INGESTOR, LEDGER, NOTIFIER
from tests.kit.spans import Collected, Seen, collector
from tests.services.finance_ledger.kit import config
from tests.services.order_ingestor.kit import SECRETS, Ground, ground, until

pytestmark = pytest.mark.timeout(900)
SERVICES: Final = (INGESTOR, ACCEPTOR, NOTIFIER, LEDGER, CONTROL_ROOM)
STAGES: Final = [
    (INGESTOR, "read orders"),
    (INGESTOR, "OR11"),
    (INGESTOR, "capture order"),
    (ACCEPTOR, "process orders"),
    (ACCEPTOR, "OR21"),
    (INGESTOR, "process order-decisions"),
    (INGESTOR, "createOrders"),
    (INGESTOR, "OR04"),
    (NOTIFIER, "notice parcel"),
    (NOTIFIER, "process dispatches"),
    (NOTIFIER, "OR23"),
    (NOTIFIER, "OR24"),
    (LEDGER, "process orders"),
    (LEDGER, "book transactions"),
    (INGESTOR, "process ledger-entries"),
    (INGESTOR, "updateOrder"),
    (LEDGER, "report payout"),
    (LEDGER, "reconcile payout"),
    (CONTROL_ROOM, "process payouts"),
]
"""What is done for an order, by whom."""


async def test_every_span_of_an_order_leads_back_to_the_poll_from_the_ledgers_booking_of_its_payout(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with collector() as spans, ground(kafka_bootstrap, database_url, tmp_path, mirakl=config()) as here:
        fleet = Fleet(environment(here, spans, tmp_path), tmp_path / "logs", SERVICES)
        async with fleet:
            await fleet.until_ready(300)
            order_id = await from_poll_to_payout(here, fleet)
        # Whoever ends sends what it still has.
        key = f"{here.market}/{order_id}"

        [captured] = spans.named(INGESTOR, "capture order", key)
        poll = spans.spans[captured.links[0]]
        assert (poll.service, poll.name) == (INGESTOR, "read orders")
        assert any(span.parent == poll.id for span in spans.named(INGESTOR, "OR11"))
        around = spans.around(captured)
        told = sorted({str(span) for span in around})
        missing = [stage for stage in STAGES if not any((span.service, span.name) == stage for span in around)]
        assert missing == [], told

        for last in (*spans.named(LEDGER, "book transactions", key), *spans.named(LEDGER, "reconcile payout")):
            way = spans.way_back(last, poll)
            assert way, f"no way back from {last} among {told}"
            assert captured in way
        elsewhere = [str(span) for span in spans.spans.values() if speaks_of(span, order_id) and span not in around]
        assert elsewhere == []
        lost = [str(span) for span in around if span.parent is not None and span.parent not in spans.spans]
        assert lost == [], "their parents were never exported"

        words = personal(here, order_id)
        assert len(words) > 5
        shown = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in words))
        assert [str(span) for span in spans.spans.values() if shown.search("\n".join(span.words))] == []


def environment(here: Ground, spans: Collected, folder: Path) -> dict[str, str]:
    people = folder / "people.toml"
    people.write_text("")
    return environment_with(
        BRIDGE_CONFIG=str(folder / "bridge.toml"),
        OTEL_EXPORTER_OTLP_ENDPOINT=spans.url,
        CONTROL_ROOM_PORT="0",
        CONTROL_ROOM_PEOPLE=str(people),
        **SECRETS,
    )


async def from_poll_to_payout(here: Ground, fleet: Fleet) -> str:
    """Sell, answer, create, ship, receive, pay; the order's id."""
    await here.put(here.mapped("SKU-000001", "P000001"))
    [order_id] = await here.sell(lines=[{"sku": "SKU-000001", "price": "100.00"}], state="WAITING_ACCEPTANCE")
    market = here.mirakl.markets["alpha"]

    async def came_to(*states: str) -> bool:
        fleet.check()
        order = market.find_order(order_id)
        return order is not None and order.state in states

    await until(lambda: came_to("WAITING_DEBIT", "WAITING_DEBIT_PAYMENT", "SHIPPING"))
    if not await came_to("SHIPPING"):
        await here.act(order_id, "debit")
    await until(lambda: has_number(here, order_id))
    created = here.sfcc_order_of(order_id)
    parcel = {"order_no": created["orderNo"], "site_id": "MainSite", "carrier": "DPD", "tracking_number": "T-1"}
    await here.control(here.sfcc_url, "POST", "/orders/ship", parcel)
    await until(lambda: came_to("SHIPPED"))

    await move_on(here, timedelta(hours=20))
    await here.act(order_id, "receive")
    fee = {"marketplace": "alpha", "shop": 2001, "type": "SELLER_PENALTY_FEE", "amount": "2", "order_id": order_id}
    await here.control(here.mirakl_url, "POST", "/ledger", fee)
    await here.control(here.mirakl_url, "POST", "/payouts", {"marketplace": "alpha", "shop": 2001})
    await move_on(here, timedelta(hours=20))
    await until(lambda: is_paid(here))
    await until(lambda: shows_net(here, order_id, Decimal(str(created["c_miraklNet"])) - 2))
    return order_id


async def move_on(here: Ground, by: timedelta) -> None:
    """Time passes for everybody; the remote systems are never behind us."""
    here.mirakl.clock.advance(by.total_seconds())
    here.sfcc.clock.advance(by.total_seconds())
    await jump(here.database, by)


async def has_number(here: Ground, order_id: str) -> bool:
    order = here.mirakl.markets["alpha"].find_order(order_id)
    return order is not None and bool(order.reference_for_seller)


async def is_paid(here: Ground) -> bool:
    """The ledger agrees with the payout."""
    url = here.settings.database_url
    async with await Database.connect(url, LEDGER.replace("-", "_"), application="test", connections=1) as ledger:
        rows = await ledger.fetch("SELECT residual FROM cycles WHERE residual IS NOT NULL")
    return [row["residual"] for row in rows] == [Decimal(0)]


async def shows_net(here: Ground, order_id: str, net: Decimal) -> bool:
    """SFCC shows what the order brings by now."""
    return Decimal(str(here.sfcc_order_of(order_id)["c_miraklNet"])) == net


def speaks_of(span: Seen, order_id: str) -> bool:
    return any(order_id in value for value in span.attributes.values())


def personal(here: Ground, order_id: str) -> set[str]:
    """What the marketplace knows of the buyer."""
    order = here.mirakl.markets["alpha"].find_order(order_id)
    assert order is not None
    words = {order.notification_email, order.customer["lastname"], order.customer["firstname"]}
    for address in (order.billing, order.shipping):
        words |= {address[name] for name in ("lastname", "street_1", "phone", "city")}
    return {word for word in words if word}
