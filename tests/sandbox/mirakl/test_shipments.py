"""Shipments of platforms that know several per order, and order exports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sandbox.mirakl.conftest import Seller, World


@pytest.fixture
def beta(world: World) -> Seller:
    return world.seller_of("beta-shop-key", "/beta")


LINES = [{"sku": "SKU-000001", "quantity": 3}, {"sku": "SKU-000002"}]
TRACKING = {"carrier_code": "DHL", "tracking_number": "1"}


def pieces(order: dict[str, Any], *quantities: int) -> list[dict[str, Any]]:
    return [
        {"order_line_id": line["id"], "quantity": quantity}
        for line, quantity in zip(order["lines"], quantities, strict=True)
        if quantity
    ]


async def test_an_order_is_shipped_with_its_last_piece(beta: Seller) -> None:
    (order,) = await beta.sell(shop=3001, lines=LINES, state="SHIPPING")
    first = {"order_id": order["order_id"], "shipment_lines": pieces(order, 2, 1), "shipped": True}
    reply = await beta.call("ST01", json={"shipments": [{**first, "tracking": TRACKING}]})
    assert reply.payload["shipment_success"][0]["status"] == "SHIPPED"
    shown = await beta.order(order["order_id"])
    assert shown["order_state"] == "SHIPPING"
    assert [line["order_line_state"] for line in shown["order_lines"]] == ["SHIPPING", "SHIPPED"]
    waiting = (await beta.call("ST12")).payload["data"]
    assert [line["quantity"] for line in waiting[0]["shipment_lines"]] == [1]
    too_many = {"order_id": order["order_id"], "shipment_lines": pieces(order, 2, 0)}
    reply = await beta.call("ST01", json={"shipments": [too_many, {**too_many, "order_id": "nowhere"}]})
    assert [one["message"] for one in reply.payload["shipment_errors"]] == [
        "Shipment quantity is invalid.",
        "The order does not exist.",
    ]
    rest = {"order_id": order["order_id"], "shipment_lines": pieces(order, 1, 0)}
    made = (await beta.call("ST01", json={"shipments": [rest]})).payload["shipment_success"][0]
    reply = await beta.call(
        "ST23", json={"shipments": [{"id": made["id"], "tracking": TRACKING}, {"id": "x", "tracking": {}}]}
    )
    assert (reply.payload["shipment_success"], len(reply.payload["shipment_errors"])) == ([{"id": made["id"]}], 1)
    assert (await beta.call("ST24", json={"shipments": [{"id": made["id"]}]})).status == 200
    assert (await beta.order(order["order_id"]))["order_state"] == "SHIPPED"
    again = await beta.call("ST24", json={"shipments": [{"id": made["id"]}]})
    assert (
        again.payload["shipment_errors"][0]["message"] == "The shipment status must be 'SHIPPING' but it is 'SHIPPED'."
    )
    listed = (await beta.call("ST11", {"order_id": order["order_id"]})).payload["data"]
    assert [one["status"] for one in listed] == ["SHIPPED", "SHIPPED"]


async def test_a_shipment_that_has_not_left_can_be_deleted(beta: Seller) -> None:
    (order,) = await beta.sell(shop=3001, lines=LINES, state="SHIPPING")
    body = {"shipments": [{"order_id": order["order_id"], "shipment_lines": pieces(order, 3, 1)}]}
    made = (await beta.call("ST01", json=body)).payload["shipment_success"][0]
    assert (await beta.call("OR24", order_id=order["order_id"])).status == 400
    reply = await beta.call("ST06", json={"shipments": [{"id": made["id"]}]})
    assert reply.payload["shipment_success"] == [{"id": made["id"]}]
    assert (await beta.call("ST11")).payload["data"] == []
    assert (await beta.call("ST01", json=body)).payload["shipment_errors"] == []


async def test_shipments_are_read_page_by_page(beta: Seller) -> None:
    made = await beta.sell(shop=3001, count=5, lines=LINES[:1], state="SHIPPING")
    body = [{"order_id": order["order_id"], "shipment_lines": pieces(order, 3), "shipped": True} for order in made]
    assert len((await beta.call("ST01", json={"shipments": body})).payload["shipment_success"]) == 5
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        payload = (await beta.call("ST11", query)).payload
        seen += [one["order_id"] for one in payload["data"]]
        if payload.get("next_page_token") is None:
            break
        query = {"page_token": payload["next_page_token"]}
    assert seen == [order["order_id"] for order in made]


async def test_a_platform_with_one_shipment_per_order_refuses_them(seller: Seller) -> None:
    (order,) = await seller.sell(lines=LINES, state="SHIPPING")
    body = {"shipments": [{"order_id": order["order_id"], "shipment_lines": pieces(order, 3, 1)}]}
    assert (await seller.call("ST01", json=body)).status == 400


async def test_orders_can_be_exported_once_at_a_time(seller: Seller) -> None:
    made = await seller.sell(count=5)
    body = {
        "start_update_date": "2026-01-05T08:00:00Z",
        "end_update_date": "2026-01-06T08:00:00Z",
        "items_per_chunk": 2,
    }
    assert (await seller.call("OR13", json={"start_date": "2026-01-05T08:00:00Z"})).status == 400
    await seller.wait(300)
    tracking = (await seller.call("OR13", json=body)).payload["tracking_id"]
    await seller.control("PATCH", "/behaviour/alpha", {"enforce_limits": False})
    assert (await seller.call("OR13", json=body)).status == 400
    assert (await seller.call("OR14", tracking_id=tracking)).payload["status"] == "PENDING"
    await seller.wait(2)
    done = (await seller.call("OR14", tracking_id=tracking)).payload
    seen: list[str] = []
    for url in done["urls"]:
        async with seller.session.get(url, headers={"Authorization": seller.key}) as answer:
            seen += [order["order_id"] for order in json.loads(await answer.text())["orders"]]
    assert (len(done["urls"]), seen) == (3, [order["order_id"] for order in made])
    assert (await seller.call("OR14", tracking_id="x")).status == 404
