"""Keys, roles, limits, violations, faults and the control API."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import jsonschema
import pytest

from sandbox.common.faults import KINDS
from tests.sandbox.mirakl.conftest import MakeWorld, Seller, World


async def test_a_wrong_missing_or_revoked_key_gets_exactly_the_platforms_401(seller: Seller) -> None:
    for key in ("wrong", "", "Bearer alpha-shop-key"):
        reply = await seller.raw("GET", "/api/orders", key=key)
        assert (reply.status, reply.raw) == (401, b'{"status":401,"message":"Unauthorized"}')
    rotated = await seller.control("POST", "/keys/alpha/rotate", {"key": "alpha-shop-key"})
    assert (await seller.raw("GET", "/api/orders")).status == 401
    assert (await seller.raw("GET", "/api/orders", key=rotated["key"])).status == 200
    await seller.control("POST", "/keys/alpha/revoke", {"key": rotated["key"]})
    assert (await seller.raw("GET", "/api/orders", key=rotated["key"])).status == 401
    assert (await seller.raw("GET", "/api/version", key="")).status == 200
    counts = (await seller.control("GET", "/violations"))["counts"]
    assert counts == {"wrong_authorization": 1}


async def test_a_key_reaches_its_shops_and_what_its_roles_allow(world: World) -> None:
    south = world.seller_of("alpha-south-key")
    assert (await south.call("OR11", {"shop_id": 2002})).status == 200
    assert (await south.call("OR11", {"shop_id": 2001})).status == 403
    finance = world.seller_of("alpha-finance-key")
    assert (await finance.call("OR11")).status == 403
    assert (await world.seller.raw("GET", "/api/sellerpayment/transactions_logs")).status == 403
    read_only = await south.control(
        "POST", "/keys/alpha", {"shops": [2001], "roles": ["ROLE_PARTNER_ORDER_READ"], "key": "reader"}
    )
    reader = world.seller_of(read_only["key"])
    assert (await reader.call("OR11")).status == 200
    (order,) = await reader.sell()
    assert (await reader.accept(order)).status == 403


async def test_calls_more_frequent_than_published_get_429_and_are_recorded(seller: Seller) -> None:
    assert (await seller.call("OR11")).status == 200
    await seller.wait(20)
    early = await seller.call("OR11")
    assert (early.status, early.headers["Retry-After"]) == (429, "40")
    assert (await seller.call("OR11", {"offset": 10})).status == 200, "a further page belongs to the same reading"
    await seller.wait(40)
    assert (await seller.call("OR11")).status == 200
    found = await seller.control("GET", "/violations")
    assert found["counts"] == {"too_frequent": 1}
    assert found["violations"][0]["operation"] == "OR11"


async def test_answers_carry_the_sandboxs_time_and_who_shares_it_waits_by_it(seller: Seller) -> None:
    shown = await seller.control("POST", "/clock", {"to": "2031-01-05T08:00:00Z", "speed": 60, "shared": True})
    assert (shown["speed"], shown["shared"]) == (60, True)
    first = await seller.call("OR11")
    assert parsedate_to_datetime(first.headers["Date"]).year == 2031
    early = await seller.call("OR11")
    assert early.status == 429
    assert int(early.headers["Retry-After"]) > 10, "a minute of the sandbox, not the second it takes outside"


async def test_limits_can_be_lifted_or_replaced(make_world: MakeWorld) -> None:
    world: World = await make_world(behaviour_limits={"OR11": [(2, 10.0)]})
    assert [(await world.seller.call("OR11")).status for _ in range(3)] == [200, 200, 429]
    await world.seller.control("PATCH", "/behaviour/alpha", {"enforce_limits": False})
    assert (await world.seller.call("OR11")).status == 200


async def test_what_the_contract_does_not_know_is_recorded_and_if_told_refused(seller: Seller) -> None:
    assert (await seller.call("OR11", {"colour": "red"})).status == 200
    await seller.wait(60)
    assert (await seller.call("OR11", {"order_state_codes": "SHIPPING,EATEN"})).status == 400
    assert (await seller.call("OR11", {"start_date": "yesterday"})).status == 400
    assert (await seller.call("OR11", {"max": "1000"})).status == 200
    assert (await seller.raw("GET", "/api/nothing")).status == 404
    assert (await seller.raw("DELETE", "/api/orders")).status == 405
    counts = (await seller.control("GET", "/violations"))["counts"]
    assert counts == {
        "unknown_parameter": 1,
        "unknown_value": 1,
        "wrong_type": 1,
        "page_too_large": 1,
        "unknown_operation": 1,
        "unknown_method": 1,
    }
    await seller.control("PATCH", "/behaviour/alpha", {"unknown_parameters": "refuse", "over_limit_page": "refuse"})
    await seller.wait(60)
    assert (await seller.call("OR11", {"colour": "red"})).status == 400
    assert (await seller.call("OR11", {"max": "1000"})).status == 400


async def test_more_than_a_hundred_ids_get_the_platforms_words(seller: Seller) -> None:
    reply = await seller.call("OR11", {"order_ids": ",".join(f"X-{number}" for number in range(101))})
    assert reply.status == 400
    assert reply.payload["message"] == "The limit of 100 is exceeded for the parameter : order_ids"


async def test_bodies_that_are_no_json_or_of_another_type_are_refused(seller: Seller) -> None:
    (order,) = await seller.sell()
    path = f"/api/orders/{order['order_id']}/accept"
    assert (await seller.raw("PUT", path, data=b"{", headers={"Content-Type": "application/json"})).status == 400
    assert (await seller.raw("PUT", path, data=b"<a/>", headers={"Content-Type": "application/xml"})).status == 415
    assert (await seller.raw("PUT", path, json=[])).status == 400


async def test_numbers_and_dates_beyond_all_bounds_are_refused(seller: Seller) -> None:
    early = await seller.call("OR11", {"start_update_date": "0001-01-01T00:00:00Z"})
    assert early.status == 200
    assert (await seller.call("OR11", {"start_date": "0001-01-01T00:00:00+14:00"})).status == 400
    offer = b'{"offers": [{"shop_sku": "A", "update_delete": "", "quantity": 1e999999}]}'
    reply = await seller.raw("POST", "/api/offers", data=offer, headers={"Content-Type": "application/json"})
    assert reply.status == 400
    await seller.control("POST", "/clock", {"advance_seconds": 1e300}, expect=400)
    await seller.control("POST", "/clock", {"advance_seconds": "soon"}, expect=400)


async def test_everything_received_can_be_read_back_without_credentials(seller: Seller) -> None:
    (order,) = await seller.sell()
    await seller.accept(order)
    found = await seller.control("GET", "/received?operation=OR21")
    (call,) = found["calls"]
    assert call["status"] == 204
    assert call["effect_at"] == "2026-01-05T08:00:00Z"
    assert '"accepted": true' in call["body"]
    assert call["caller"] == "ann"
    assert "alpha-shop-key" not in str(found)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_fault_does_to_the_wire_and_to_the_order_what_it_says(world: World, kind: str) -> None:
    seller = world.seller
    (order,) = await seller.sell()
    rule: dict[str, Any] = {"kind": kind, "operation": "OR21", "count": 1, "seconds": 0.05, "hold_seconds": 0.01}
    if kind in ("set_value", "remove_value"):
        rule |= {"operation": "OR11", "path": "orders.*.order_state", "value": "HALF_EATEN"}
    if kind in ("duplicate_rows", "reorder_rows", "cut_in_body", "slow_body", "garbage"):
        rule["operation"] = "OR11"
        await seller.sell(count=2)
    await seller.control("POST", "/faults", rule)
    outcome: Any
    try:
        if rule["operation"] == "OR21":
            outcome = (await seller.accept(order)).status
        else:
            outcome = await seller.raw("GET", "/api/orders")
    except (aiohttp.ClientError, ValueError) as error:
        outcome = type(error)
    state = (await seller.control("GET", f"/orders/alpha/{order['order_id']}"))["order_state"]
    effect = "SHIPPING" if state == "SHIPPING" else "none"
    if kind == "latency":
        assert (outcome, effect) == (204, "SHIPPING")
    elif kind == "status":
        assert (outcome, effect) == (500, "none")
    elif kind == "status_after_effect":
        assert (outcome, effect) == (500, "SHIPPING")
    elif kind == "cut_before_effect":
        assert (outcome, effect) == (aiohttp.ServerDisconnectedError, "none")
    elif kind == "cut_after_effect":
        assert (outcome, effect) == (aiohttp.ServerDisconnectedError, "SHIPPING")
    elif kind == "late_effect":
        assert (outcome, effect) == (aiohttp.ServerDisconnectedError, "none")
        await seller.wait(1)
        assert (await seller.order(order["order_id"]))["order_state"] == "SHIPPING"
    elif kind == "cut_in_body":
        assert outcome is aiohttp.ClientPayloadError
    elif kind == "garbage":
        assert issubclass(outcome, ValueError)
    else:
        ids = [one["order_id"] for one in outcome.payload["orders"]]
        states = [one.get("order_state") for one in outcome.payload["orders"]]
        expected = {
            "duplicate_rows": (4, ids[0] == ids[-1]),
            "reorder_rows": (3, ids == sorted(ids, reverse=True)),
            "slow_body": (3, True),
            "set_value": (1, states == ["HALF_EATEN"]),
            "remove_value": (1, states == [None]),
        }
        assert (len(ids), True) == expected[kind]
    assert (await seller.control("GET", "/faults"))["faults"][0]["hits"] == 1


async def test_faults_can_hit_one_shop_and_stop_after_their_count(world: World) -> None:
    seller = world.seller
    await seller.control("PATCH", "/behaviour/alpha", {"enforce_limits": False})
    rule = {"kind": "status", "status": 429, "count": 2, "where": {"shop": "2001"}, "seconds": 7}
    await seller.control("POST", "/faults", rule)
    assert (await world.seller_of("alpha-south-key").call("OR11")).status == 200
    replies = [await seller.call("OR11") for _ in range(3)]
    assert [reply.status for reply in replies] == [429, 429, 200]
    assert replies[0].headers["Retry-After"] == "7"


async def test_the_control_api_describes_itself(seller: Seller) -> None:
    document = await seller.control("GET", "/openapi.json")
    assert document["openapi"].startswith("3.1")
    for item in document["paths"].values():
        for described in item.values():
            schema = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema is not None:
                jsonschema.Draft202012Validator.check_schema({**schema, "components": document["components"]})
    refused = await seller.control("POST", "/orders", {"marketplace": "alpha", "colour": 1}, expect=400)
    assert "colour" in refused["message"]
    await seller.control("POST", "/orders", {"marketplace": "gamma"}, expect=404)


async def test_a_storefront_sells_while_time_passes_and_until_it_is_stopped(seller: Seller) -> None:
    request = {"orders": {"marketplace": "alpha", "shop": 2001, "seed": 3}, "per_minute": 10}
    opened = await seller.control("POST", "/storefronts", request)
    await seller.wait(600)
    total = (await seller.control("GET", "/summary"))["total"]
    assert 50 < total["orders"] < 150
    await seller.control("DELETE", f"/storefronts/{opened['id']}")
    await seller.wait(600)
    assert (await seller.control("GET", "/summary"))["total"]["orders"] == total["orders"]


async def test_a_storefront_without_a_shop_sells_in_every_shop_in_turn(seller: Seller) -> None:
    await seller.control("POST", "/storefronts", {"orders": {"marketplace": "alpha"}, "per_minute": 60})
    await seller.wait(30)
    shops = (await seller.control("GET", "/summary"))["shops"]
    north, south = (shop["orders"] for shop in shops if shop["marketplace"] == "alpha")
    assert north > 5
    assert abs(north - south) <= 1


async def test_the_same_seed_makes_the_same_orders(make_world: MakeWorld) -> None:
    worlds: list[World] = [await make_world(), await make_world()]
    first, second = [await world.seller.sell(count=5) for world in worlds]
    assert first == second
    shown = [await world.seller.order(first[0]["order_id"]) for world in worlds]
    assert shown[0] == shown[1]


async def test_the_clock_can_be_moved_frozen_and_sped_up_but_not_turned_back(seller: Seller) -> None:
    await seller.control("POST", "/clock", {"to": "2026-02-01T00:00:00Z"})
    assert (await seller.control("GET", "/clock"))["now"] == "2026-02-01T00:00:00Z"
    await seller.control("POST", "/clock", {"to": "2026-01-01T00:00:00Z"}, expect=400)
    await seller.control("POST", "/clock", {"speed": 100_000})
    await asyncio.sleep(0.02)
    await seller.control("POST", "/clock", {"speed": 0})
    later = (await seller.control("GET", "/clock"))["now"]
    assert later > "2026-02-01T00:30:00Z"
    assert (await seller.control("GET", "/clock"))["now"] == later


async def test_shops_carriers_and_configuration_can_be_changed_while_it_runs(seller: Seller) -> None:
    await seller.control("PATCH", "/shops/alpha/2001", {"partial_acceptance": False})
    changed = await seller.control("PATCH", "/config/alpha", {"acceptance_seconds": 60})
    assert changed == {"acceptance_seconds": 60}
    (order,) = await seller.sell()
    await seller.wait(60)
    assert (await seller.order(order["order_id"]))["order_state"] == "REFUSED"
    await seller.control("PATCH", "/config/alpha", {"name": "omega"}, expect=400)
    await seller.control("PATCH", "/config/alpha", {"acceptance_seconds": "soon"}, expect=400)
    renamed = await seller.control("POST", "/carriers/alpha/rename", {"code": "DHL", "new_code": "DHL_EU"})
    assert renamed["code"] == "DHL_EU"
    (order,) = await seller.sell(state="SHIPPING")
    tracking = {"carrier_code": "DHL", "tracking_number": "1"}
    assert (await seller.call("OR23", json=tracking, order_id=order["order_id"])).status == 400


async def test_a_call_may_come_as_much_sooner_as_the_sandbox_tolerates(seller: Seller) -> None:
    await seller.control("PATCH", "/behaviour/alpha", {"limit_tolerance_seconds": 2.0})
    assert (await seller.call("OR11")).status == 200
    await seller.wait(57)
    assert (await seller.call("OR11")).status == 429
    await seller.wait(1)
    assert (await seller.call("OR11")).status == 200
