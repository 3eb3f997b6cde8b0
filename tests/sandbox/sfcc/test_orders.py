"""The Orders API of the sandbox: what it takes, what it refuses, what it stores."""

from __future__ import annotations

import copy
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.kit.contracts import contract
from tests.sandbox.sfcc.kit import ORDERS, Reply, Sandbox, config, order, serving


def slug(reply: Reply) -> str:
    """The last part of a problem's type."""
    return str(reply.json["type"]).rsplit("/", 1)[-1]


async def test_an_order_is_created_with_an_empty_answer_and_can_be_read_at_its_location(sfcc: Sandbox) -> None:
    created = await sfcc.create(order("M-1001-A", c_miraklOrderId="M-1001-A"))
    assert (created.status, created.body) == (201, b"")
    assert created.headers["Location"].startswith(f"{sfcc.url}{ORDERS}/M-1001-A")
    stored = await sfcc.get("M-1001-A")
    assert stored["status"] == "new"
    assert stored["orderTotal"] == Decimal("66.91")
    assert stored["c_miraklOrderId"] == "M-1001-A"
    assert stored["customerInfo"]["guest"] is True
    assert stored["customerInfo"]["customerName"] == "Jane Doe"


@pytest.mark.parametrize(
    ("honoured", "form", "email", "guest"),
    [
        (True, {"email_id": "proxy@marketplace.example"}, "proxy@marketplace.example", True),
        (True, {"login_id": "jane@shopper.example"}, "jane@shopper.example", False),
        (True, {}, None, True),
        (False, {"email_id": "proxy@marketplace.example"}, None, True),
    ],
)
async def test_the_token_gives_the_order_its_email_where_the_instance_honours_it(
    honoured: bool, form: dict[str, str], email: str | None, guest: bool
) -> None:
    async with serving(config(customer_email_from_token=honoured)) as sfcc:
        sfcc.keep("tsob", (await sfcc.token("tsob", **form)).json["access_token"])
        await sfcc.create(order())
        customer = (await sfcc.get("M-1001-A"))["customerInfo"]
        assert (customer.get("email"), customer["guest"]) == (email, guest)


async def test_the_first_shipment_is_renamed_me_and_its_method_becomes_an_object(sfcc: Sandbox) -> None:
    request = order()
    second = copy.deepcopy(request["shipments"][0]) | {"shipmentId": "second", "shippingTotal": 0}
    request["shipments"].append(second)
    await sfcc.create(request)
    stored = await sfcc.get("M-1001-A")
    assert [one["shipmentId"] for one in stored["shipments"]] == ["me", "second"]
    assert stored["shipments"][0]["shippingMethod"] == {"id": "EXPRESS"}
    assert stored["productItems"][0]["shipmentId"] == "me"
    assert all(one["shipmentNo"] for one in stored["shipments"])


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        ({"orderTotal": Decimal("66.92")}, 400, "invalid-order-total"),
        ({"taxTotal": Decimal("12.40")}, 400, "invalid-tax-total"),
        ({"currency": "USD"}, 400, "bad-request"),
        ({"c_unheardOf": "x"}, 400, "bad-request"),
        ({"note": "x"}, 400, "bad-request"),
        ({"paymentStatus": "part_paid"}, 400, "bad-request"),
        ({"orderNo": "x" * 51}, 400, "bad-request"),
        ({"orderTotal": "66.91"}, 400, "bad-request"),
        ({"productItems": []}, 400, "bad-request"),
    ],
)
async def test_what_does_not_add_up_or_is_not_known_is_refused(
    sfcc: Sandbox, change: dict[str, Any], status: int, problem: str
) -> None:
    reply = await sfcc.create(order(**change))
    assert (reply.status, slug(reply)) == (status, problem)
    assert len(sfcc.instance.sites["MainSite"].orders) == 0


async def test_a_total_that_does_not_add_up_is_noted_a_taken_number_is_not(sfcc: Sandbox) -> None:
    await sfcc.create(order("X"))
    await sfcc.create(order("X"))
    await sfcc.create(order("Y", orderTotal=1))
    noted = (await sfcc.control("GET", "/violations"))["violations"]
    assert [(one["operation"], one["rule"]) for one in noted] == [("createOrders", "invalid-order-total")]


async def test_at_most_200_lines_and_10_shipments_are_taken(sfcc: Sandbox) -> None:
    request = order(orderTotal=Decimal("4.95"), taxTotal=0)
    line = request["productItems"][0] | {"grossPrice": 0, "netPrice": 0, "tax": 0}
    request["productItems"] = [line] * 201
    assert (await sfcc.create(request)).status == 400
    request["productItems"] = [line] * 200
    shipment = request["shipments"][0]
    request["shipments"] = [shipment] + [
        shipment | {"shipmentId": f"s{number}", "shippingTotal": 0} for number in range(10)
    ]
    assert (await sfcc.create(request)).status == 400
    request["shipments"].pop()
    assert (await sfcc.create(request)).status == 201


async def test_a_line_whose_shipment_is_missing_is_a_404(sfcc: Sandbox) -> None:
    request = order()
    request["productItems"][0]["shipmentId"] = "elsewhere"
    assert (await sfcc.create(request)).status == 404


async def test_an_order_number_is_given_once_per_site(sfcc: Sandbox) -> None:
    assert (await sfcc.create(order("X"))).status == 201
    again = await sfcc.create(order("X"))
    assert (again.status, slug(again)) == (400, "bad-request")
    assert "already exists" in again.json["detail"]
    generated = await sfcc.create(order(None))
    assert generated.headers["Location"].partition("?")[0].endswith("/00000001")
    summary = await sfcc.control("GET", "/summary")
    assert summary["sites"]["MainSite"]["refusedNumbers"] == 1


async def test_two_orders_of_one_marketplace_order_are_counted_as_a_double(sfcc: Sandbox) -> None:
    for number in ("X", "Y"):
        await sfcc.create(order(number, c_miraklOrderId="M-1"))
    summary = await sfcc.control("GET", "/summary")
    assert summary["doubles"] == 1
    assert summary["sites"]["MainSite"]["totals"] == [
        {"currency": "EUR", "channelType": "marketplace", "orderTotal": Decimal("133.82")}
    ]


async def test_a_custom_attribute_must_be_defined_on_basket_and_order() -> None:
    settings = config()
    del settings.custom_attributes["Basket"]["miraklOrderId"]
    async with serving(settings) as sfcc:
        reply = await sfcc.create(order(c_miraklOrderId="M-1"))
        assert reply.status == 400
        assert "Basket" in reply.json["detail"]


METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://www.demandware.com/xml/impex/metadata/2006-10-31">
  <type-extension type-id="Basket"><custom-attribute-definitions>
    <attribute-definition attribute-id="net"><type>double</type></attribute-definition>
  </custom-attribute-definitions></type-extension>
  <type-extension type-id="Order"><custom-attribute-definitions>
    <attribute-definition attribute-id="net"><type>double</type></attribute-definition>
  </custom-attribute-definitions></type-extension>
</metadata>"""


async def test_a_metadata_file_defines_the_attributes_that_orders_may_carry(tmp_path: Path) -> None:
    settings = config()
    path = tmp_path / "system-objecttype-extensions.xml"
    path.write_text(METADATA)
    settings.metadata_files = [str(path)]
    async with serving(settings) as sfcc:
        assert (await sfcc.create(order("A", c_net=Decimal("1.5")))).status == 201
        assert (await sfcc.create(order("B", c_net="1.5"))).status == 400
        assert (await sfcc.create(order("C", c_miraklOrderId="C"))).status == 400
        more = METADATA.replace("net", "miraklOrderId").replace("double", "string")
        await sfcc.control("POST", "/metadata", {"xml": more})
        assert (await sfcc.create(order("C", c_miraklOrderId="C"))).status == 201
        for broken in ("<metadata/>", METADATA.replace("double", "float"), "<a", METADATA + "<!ENTITY x>"):
            assert (await sfcc.send("POST", "/control/metadata", json={"xml": broken})).status == 400


async def test_createorders_takes_a_trusted_system_token_for_its_site_only(sfcc: Sandbox) -> None:
    assert (await sfcc.admin("POST", ORDERS, order(), siteId="MainSite")).status == 403
    assert (await sfcc.create(order(), site="NetSite")).status == 403
    assert (await sfcc.send("POST", f"{ORDERS}?siteId=MainSite", json={})).status == 401


async def test_a_trusted_system_token_may_patch_an_order_and_null_clears(sfcc: Sandbox) -> None:
    await sfcc.create(order(c_miraklOperatorStatus="SHIPPING"))
    path = f"{ORDERS}/M-1001-A"
    patched = await sfcc.shopper(
        "PATCH", path, {"c_miraklOperatorStatus": None, "c_miraklCommissionTotal": 7.5}, siteId="MainSite"
    )
    assert patched.status == 204
    stored = await sfcc.get("M-1001-A")
    assert "c_miraklOperatorStatus" not in stored
    assert stored["c_miraklCommissionTotal"] == Decimal("7.5")
    assert (await sfcc.admin("PATCH", path, {"status": "completed"}, siteId="MainSite")).status == 400


@pytest.mark.parametrize(
    ("tail", "member", "value"),
    [
        ("confirmation-status", "confirmationStatus", "confirmed"),
        ("export-status", "exportStatus", "ready"),
        ("external-status", "externalOrderStatus", "on its way"),
        ("payment-status", "paymentStatus", "part_paid"),
        ("shipping-status", "shippingStatus", "part_shipped"),
        ("status", "status", "completed"),
    ],
)
async def test_each_status_is_put_and_moves_the_modification_date(
    sfcc: Sandbox, tail: str, member: str, value: str
) -> None:
    await sfcc.create(order())
    sfcc.instance.clock.advance(5)
    assert (await sfcc.admin("PUT", f"{ORDERS}/M-1001-A/{tail}", {"status": value}, siteId="MainSite")).status == 204
    stored = await sfcc.get("M-1001-A")
    assert (stored[member], stored["lastModified"]) == (value, "2026-01-05T08:00:05.000Z")
    assert (await sfcc.admin("PUT", f"{ORDERS}/M-1001-A/{tail}", {"status": ""}, siteId="MainSite")).status == 400


async def test_a_placed_order_never_goes_back_to_created_or_failed(sfcc: Sandbox) -> None:
    await sfcc.create(order())
    for wanted in ("created", "failed", "failed_with_reopen"):
        reply = await sfcc.admin("PUT", f"{ORDERS}/M-1001-A/status", {"status": wanted}, siteId="MainSite")
        assert reply.status == 400


async def test_payment_and_address_are_updated_in_place(sfcc: Sandbox) -> None:
    await sfcc.create(order())
    path, stored = f"{ORDERS}/M-1001-A", await sfcc.get("M-1001-A")
    instrument = stored["paymentInstruments"][0]["paymentInstrumentId"]
    one = f"{path}/payment-instruments/{instrument}"
    assert (await sfcc.admin("PATCH", one, {"c_issuerBank": "A bank"}, siteId="MainSite")).status == 204
    assert (await sfcc.admin("PATCH", f"{one}/transaction", {"c_authResult": "OK"}, siteId="MainSite")).status == 204
    address = {"firstName": "John", "countryCode": "FR"}
    put = await sfcc.admin("PUT", f"{path}/shipments/me/shipping-address", address, siteId="MainSite")
    assert put.status == 204
    stored = await sfcc.get("M-1001-A")
    assert stored["paymentInstruments"][0]["c_issuerBank"] == "A bank"
    assert stored["paymentInstruments"][0]["paymentTransaction"]["c_authResult"] == "OK"
    assert stored["shipments"][0]["shippingAddress"] == address
    missing = await sfcc.admin("PUT", f"{path}/shipments/other/shipping-address", address, siteId="MainSite")
    assert missing.status == 404


async def test_an_oms_event_is_accepted_and_leaves_the_order_alone(sfcc: Sandbox) -> None:
    await sfcc.create(order())
    before = await sfcc.get("M-1001-A")
    event = {
        "fulfillmentEvent": {
            "id": "e1",
            "occurredAt": "2026-01-05T09:00:00Z",
            "type": "shipped",
            "lineItems": [{"id": "1", "quantity": 1}],
            "trackingNumber": "1Z",
            "trackingUrl": "https://carrier.example/1Z",
        }
    }
    path = f"{ORDERS}/M-1001-A/oms-status-events"
    assert (await sfcc.admin("POST", path, event, siteId="MainSite")).status == 202
    assert (await sfcc.admin("POST", path, {}, siteId="MainSite")).status == 400
    assert await sfcc.get("M-1001-A") == before


async def test_the_list_is_walked_by_modification_date_without_loss_or_repeat(sfcc: Sandbox) -> None:
    for number in range(25):
        await sfcc.create(order(f"N{number:02d}"))
        sfcc.instance.clock.advance(1)
    await sfcc.admin("PUT", f"{ORDERS}/N03/export-status", {"status": "exported"}, siteId="MainSite")
    seen: list[str] = []
    for offset in range(0, 30, 10):
        page = await sfcc.admin(
            "GET", ORDERS, siteId="MainSite", sortBy="last_modified_date", sortOrder="asc", limit="10",
            offset=str(offset), lastModifiedDateFrom="2026-01-05T08:00:02.000Z",
        )  # fmt: skip
        seen += [one["orderNo"] for one in page.json["data"]]
    assert seen == ["N02", *[f"N{number:02d}" for number in range(4, 25)], "N03"]
    exported = await sfcc.admin("GET", ORDERS, siteId="MainSite", exportStatus="exported,ready")
    assert [one["orderNo"] for one in exported.json["data"]] == ["N03"]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "201"},
        {"limit": "0"},
        {"offset": "9950"},
        {"status": "new,completed,cancelled"},
        {"status": "open"},
        {"sortBy": "order_no"},
        {"lastModifiedDateFrom": "yesterday"},
        {"customerEmail": "x"},
    ],
)
async def test_a_list_parameter_outside_its_range_is_refused_and_noted(sfcc: Sandbox, query: dict[str, str]) -> None:
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite", **query)).status == 400
    if query != {"offset": "9950"}:
        noted = (await sfcc.control("GET", "/violations"))["violations"]
        assert [one["where"] for one in noted] == list(query)


async def test_every_call_needs_a_site_that_exists(sfcc: Sandbox) -> None:
    assert (await sfcc.admin("GET", ORDERS)).status == 400
    assert (await sfcc.admin("GET", ORDERS, siteId="Nowhere")).status == 404
    other = ORDERS.replace("f_ecom_zzsb_001", "f_ecom_zzsb_002")
    assert (await sfcc.admin("GET", other, siteId="MainSite")).status == 404


async def test_a_late_list_shows_orders_only_after_its_lag() -> None:
    async with serving(config(orders_list_lag_seconds=30)) as sfcc:
        await sfcc.create(order())
        assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).json == {"data": []}
        assert (await sfcc.get("M-1001-A"))["status"] == "new"
        sfcc.instance.clock.advance(31)
        assert len((await sfcc.admin("GET", ORDERS, siteId="MainSite")).json["data"]) == 1


@pytest.mark.parametrize(
    "name", ["CreateSimpleOrder", "CreateFullOrder", "CreateOrderMultiShipment", "CreateFullPaymentInstrument"]
)
async def test_every_example_of_the_contract_is_created(name: str) -> None:
    example = contract("sfcc-orders-oas-1.5.2.yaml").document["components"]["examples"][name]["value"]
    settings = config()
    settings.sites[0].currencies = ["EUR", "USD"]
    async with serving(settings) as sfcc:
        assert (await sfcc.create(example)).status == 201
        assert (await sfcc.get(example["orderNo"]))["orderTotal"] == pytest.approx(Decimal(str(example["orderTotal"])))


async def test_a_hook_that_takes_stock_refuses_what_is_sold_out_and_a_cancellation_gives_back() -> None:
    async with serving(config(create_orders_hook="stock")) as sfcc:
        await sfcc.control("PUT", "/stock", {"product_id": "P000001", "on_hand": 3})
        assert (await sfcc.create(order("A"))).status == 201
        short = await sfcc.create(order("B"))
        assert (short.status, slug(short)) == (400, "hook-status-exception")
        await sfcc.admin("PUT", f"{ORDERS}/A/status", {"status": "cancelled"}, siteId="MainSite")
        assert (await sfcc.create(order("C"))).status == 201
        undone = await sfcc.admin("PUT", f"{ORDERS}/A/status", {"status": "new"}, siteId="MainSite")
        assert (undone.status, slug(undone)) == (409, "undo-cancel-order")
