"""The control API: storefront, warehouse, clerk, faults, load, record."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import aiohttp
import jsonschema
import pytest

from sandbox.sfcc.control import endpoints
from tests.sandbox.sfcc.kit import AVAILABILITY, ORDERS, Sandbox, config, order, serving
from tests.sandbox.sfcc.test_inventory import DOCUMENT, group, wants


async def test_the_storefront_sells_and_stock_falls(sfcc: Sandbox) -> None:
    item = {"product_id": "P000001", "quantity": 3}
    sold = await sfcc.control("POST", "/orders/sell", {"items": [item]})
    assert (await sfcc.control("GET", "/stock", product_id="P000001"))["stock"][0]["ats"]["MainSite"] == 47
    stored = await sfcc.get(sold["orderNos"][0])
    assert (stored["createdBy"], stored["channelType"]) == ("Customer", "storefront")
    assert stored["productItems"][0]["quantity"] == 3
    too_many = await sfcc.send("POST", "/control/orders/sell", json={"items": [item | {"quantity": 48}]})
    assert too_many.status == 409


async def test_the_warehouse_writes_tracking_and_a_carrier_as_it_calls_it(sfcc: Sandbox) -> None:
    number = (await sfcc.control("POST", "/orders/sell", {}))["orderNos"][0]
    await sfcc.control(
        "POST", "/orders/ship", {"order_no": number, "carrier": "D.H.L. Express", "tracking_number": "JD0001"}
    )
    stored = await sfcc.get(number)
    shipment = stored["shipments"][0]
    assert (stored["shippingStatus"], shipment["shippingStatus"]) == ("shipped", "shipped")
    assert (shipment["trackingNumber"], shipment["c_carrier"]) == ("JD0001", "D.H.L. Express")
    product = stored["productItems"][0]["productId"]
    location = (await sfcc.control("GET", "/stock", product_id=product))["stock"][0]["locations"]["warehouse_north"]
    assert (location["onHand"], location["reserved"]) == (49, 0)
    again = await sfcc.send("POST", "/control/orders/ship", json={"order_no": number})
    assert again.status == 404


async def test_an_order_of_two_shipments_is_shipped_in_parts(sfcc: Sandbox) -> None:
    request = order("X")
    request["shipments"].append(request["shipments"][0] | {"shipmentId": "second", "shippingTotal": 0})
    await sfcc.create(request)
    await sfcc.control("POST", "/orders/ship", {"order_no": "X", "shipment_id": "second", "tracking_number": ""})
    stored = await sfcc.get("X")
    assert stored["shippingStatus"] == "part_shipped"
    assert "trackingNumber" not in stored["shipments"][1]
    await sfcc.control("POST", "/orders/ship", {"order_no": "X"})
    assert (await sfcc.get("X"))["shippingStatus"] == "shipped"


async def test_some_products_leave_in_a_parcel_of_their_own(sfcc: Sandbox) -> None:
    items = [{"product_id": "P000001", "quantity": 2}, {"product_id": "P000002"}]
    number = (await sfcc.control("POST", "/orders/sell", {"items": items}))["orderNos"][0]
    part = {"order_no": number, "product_ids": ["P000002"], "carrier": "dpd uk "}
    await sfcc.control("POST", "/orders/ship", part)
    stored = await sfcc.get(number)
    first, second = stored["shipments"]
    assert (stored["shippingStatus"], first["shippingStatus"]) == ("part_shipped", "not_shipped")
    assert (second["shipmentId"], second["shippingStatus"], second["c_carrier"]) == ("me-1", "shipped", "dpd uk ")
    assert {line["productId"]: line["shipmentId"] for line in stored["productItems"]} == {
        "P000001": "me",
        "P000002": "me-1",
    }
    assert first["shipmentTotal"] + second["shipmentTotal"] == stored["orderTotal"]
    stock = (await sfcc.control("GET", "/stock", product_id="P000001"))["stock"][0]["locations"]["warehouse_north"]
    assert stock["onHand"] == 50
    for wrong, status in ((["P000009"], 404), (["P000001"], 400)):
        refused = await sfcc.send("POST", "/control/orders/ship", json=part | {"product_ids": wrong})
        assert refused.status == status
    await sfcc.control("POST", "/orders/ship", {"order_no": number})
    assert (await sfcc.get(number))["shippingStatus"] == "shipped"


async def test_a_carrier_may_stand_in_the_shipping_method() -> None:
    async with serving(config(carrier_in_shipping_method=True, carrier_attribute="")) as sfcc:
        await sfcc.control("POST", "/warehouse", {"seconds_to_ship": 5, "carriers": ["dpd uk "]})
        await sfcc.create(order("X"))
        sfcc.instance.clock.advance(5)
        shipment = (await sfcc.get("X"))["shipments"][0]
        assert (shipment["shippingMethod"], "c_carrier" in shipment) == ({"id": "dpd uk "}, False)


async def test_shipping_a_marketplace_order_uses_up_its_reservation(sfcc: Sandbox) -> None:
    await sfcc.admin("PUT", DOCUMENT, wants(2, externalRefId="M-1001-A"))
    await sfcc.create(order("M-1001-A"))
    await sfcc.control("POST", "/orders/ship", {"order_no": "M-1001-A"})
    after = await group(sfcc)
    assert (after["onHand"], after["groupReserved"], after["ato"]) == (48, 0, 48)


async def test_a_cancelled_order_gives_its_stock_back_and_says_why(sfcc: Sandbox) -> None:
    number = (await sfcc.control("POST", "/orders/sell", {"items": [{"product_id": "P000001"}]}))["orderNos"][0]
    await sfcc.control("POST", "/orders/cancel", {"order_no": number, "code": "BUYER", "description": "changed mind"})
    stored = await sfcc.get(number)
    assert (stored["status"], stored["cancelCode"]) == ("cancelled", "BUYER")
    assert (await sfcc.control("GET", "/stock", product_id="P000001"))["stock"][0]["ats"]["MainSite"] == 50
    assert (await sfcc.send("POST", "/control/orders/ship", json={"order_no": number})).status == 409


async def test_storefront_and_warehouse_work_by_themselves_as_the_clock_moves(sfcc: Sandbox) -> None:
    await sfcc.control("POST", "/storefront", {"seconds_between_orders": 10})
    await sfcc.control("POST", "/warehouse", {"seconds_to_ship": 60})
    await sfcc.control("POST", "/clock", {"advance_seconds": 125})
    summary = await sfcc.control("GET", "/summary")
    assert summary["orders"] == 12
    assert summary["sites"]["MainSite"]["byShippingStatus"] == {"shipped": 6, "not_shipped": 6}
    await sfcc.control("POST", "/storefront", {"seconds_between_orders": 0})
    await sfcc.control("POST", "/clock", {"advance_seconds": 600})
    assert (await sfcc.control("GET", "/summary"))["sites"]["MainSite"]["byShippingStatus"] == {"shipped": 12}


async def test_the_same_seed_sells_the_same(sfcc: Sandbox) -> None:
    await sfcc.control("POST", "/orders/sell", {"count": 20})
    async with serving() as other:
        await other.control("POST", "/orders/sell", {"count": 20})
        assert await other.control("GET", "/orders") == await sfcc.control("GET", "/orders")
    async with serving(seed=8) as other:
        await other.control("POST", "/orders/sell", {"count": 20})
        assert await other.control("GET", "/orders") != await sfcc.control("GET", "/orders")


async def test_a_cut_after_the_effect_leaves_one_order_behind(sfcc: Sandbox) -> None:
    await sfcc.token("tsob")
    await sfcc.control("POST", "/faults", {"kind": "cut_after_effect", "operation": "createOrders", "count": 1})
    with pytest.raises(aiohttp.ClientError):
        await sfcc.create(order("X"))
    assert (await sfcc.get("X"))["status"] == "new"
    call = (await sfcc.control("GET", "/received", operation="createOrders"))["calls"][0]
    assert (call["fault"], call["status"]) == ("cut_after_effect", None)
    assert call["effect_at"]


async def test_a_late_effect_comes_after_the_caller_has_gone(sfcc: Sandbox) -> None:
    await sfcc.token("tsob")
    await sfcc.control("POST", "/faults", {"kind": "late_effect", "operation": "createOrders", "seconds": 30})
    with pytest.raises(aiohttp.ClientError):
        await sfcc.create(order("X"))
    assert (await sfcc.admin("GET", f"{ORDERS}/X", siteId="MainSite")).status == 404
    await sfcc.control("POST", "/clock", {"advance_seconds": 30})
    assert (await sfcc.get("X"))["status"] == "new"


async def test_an_answer_can_be_rewritten(sfcc: Sandbox) -> None:
    await sfcc.create(order("X"))
    await sfcc.create(order("Y"))
    await sfcc.control(
        "POST", "/faults", {"kind": "set_value", "operation": "getOrders", "path": "data.*.status", "value": "open"}
    )
    reply = await sfcc.send(
        "GET", f"{ORDERS}?siteId=MainSite",
        headers={"Authorization": f"Bearer {(await sfcc.token('am')).json['access_token']}"},
    )  # fmt: skip
    assert [one["status"] for one in reply.json["data"]] == ["open", "open"]
    assert reply.json["data"][0]["orderTotal"] == Decimal("66.91")
    assert await sfcc.control("DELETE", "/faults") == {"removed": 1}


async def test_an_outage_lasts_its_seconds_and_then_all_is_well(sfcc: Sandbox) -> None:
    await sfcc.create(order("X"))
    await sfcc.get("X")
    await sfcc.control("POST", "/outage", {"seconds": 30})
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).status == 503
    await sfcc.control("POST", "/outage", {"seconds": 30, "status": 0, "families": ["scapi"]})
    with pytest.raises(aiohttp.ClientError):
        await sfcc.admin("GET", ORDERS, siteId="MainSite")
    assert (await sfcc.token("am")).status == 200
    sfcc.instance.clock.advance(30)
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).status == 200


async def test_load_warns_then_sheds_with_the_published_headers(sfcc: Sandbox) -> None:
    await sfcc.control("PUT", "/load", {"percent": 50})
    calm = await sfcc.admin("GET", ORDERS, siteId="MainSite")
    assert (calm.headers["sfdc_load"], "sfdc_load_status" in calm.headers) == ("50", False)
    await sfcc.control("PUT", "/load", {"percent": 85})
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).headers["sfdc_load_status"] == "WARN"
    await sfcc.control("PUT", "/load", {"percent": 100})
    shed = await sfcc.admin("GET", ORDERS, siteId="MainSite")
    assert (shed.status, shed.headers["sfdc_load_status"]) == (503, "THROTTLE")
    assert "sfdc_load" not in shed.headers
    assert (await sfcc.token("tsob")).status == 200


async def test_an_injected_429_carries_retry_after_and_a_problem(sfcc: Sandbox) -> None:
    await sfcc.control("POST", "/faults", {"kind": "status", "operation": "getOrders", "status": 429, "seconds": 4})
    reply = await sfcc.admin("GET", ORDERS, siteId="MainSite")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "4")
    assert reply.headers["Content-Type"] == "application/problem+json"


async def test_latency_delays_without_changing_the_answer(sfcc: Sandbox) -> None:
    await sfcc.admin("GET", ORDERS, siteId="MainSite")
    await sfcc.control("POST", "/faults", {"kind": "latency", "operation": "getOrders", "seconds": 0.05})
    begun = asyncio.get_running_loop().time()
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).status == 200
    assert asyncio.get_running_loop().time() - begun >= 0.05


async def test_a_correlation_id_comes_back(sfcc: Sandbox) -> None:
    reply = await sfcc.send("GET", ORDERS, headers={"correlation-id": "abc"})
    assert reply.headers["x-correlation-id"] == "abc"


async def test_a_path_nobody_serves_is_noted(sfcc: Sandbox) -> None:
    assert (await sfcc.send("GET", "/s/-/dw/data/v25_6/sites")).status == 404
    noted = (await sfcc.control("GET", "/violations"))["violations"]
    assert [one["rule"] for one in noted] == ["unknown-operation"]
    await sfcc.control("DELETE", "/received")
    assert (await sfcc.control("GET", "/violations"))["violations"] == []


async def test_the_control_api_describes_itself(sfcc: Sandbox) -> None:
    document = (await sfcc.send("GET", "/control/openapi.json")).json
    listed = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
    assert listed == {(one.method, one.path) for one in endpoints(sfcc.instance)}
    schema = {"$ref": "#/components/schemas/Dispatch", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate({"order_no": "X"})
    refused = await sfcc.send("POST", "/control/orders/ship", json={"orderNo": "X"})
    assert refused.status == 400


async def test_the_platform_world_sells_from_lists_and_knows_no_oci() -> None:
    settings = config()
    settings.inventory = "platform"
    settings.inventory_lists[0].on_order = True
    async with serving(settings) as sfcc:
        item = {"product_id": "P000001", "quantity": 5}
        number = (await sfcc.control("POST", "/orders/sell", {"items": [item]}))["orderNos"][0]
        shown = (await sfcc.control("GET", "/stock", product_id="P000001"))["stock"][0]["lists"]["inventory_main"]
        assert (shown["onOrder"], shown["turnover"], shown["ats"]) == (5, 0, 45)
        await sfcc.admin("PUT", f"{ORDERS}/{number}/export-status", {"status": "exported"}, siteId="MainSite")
        shown = (await sfcc.control("GET", "/stock", product_id="P000001"))["stock"][0]["lists"]["inventory_main"]
        assert (shown["onOrder"], shown["turnover"], shown["ats"]) == (0, 5, 45)
        reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": "x"})
        assert (reply.status, reply.json["errorCode"]) == (403, "TenantNotProvisioned")
