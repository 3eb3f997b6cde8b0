"""Orders: what OR21 and its sisters do to an order, and what happens by itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sandbox.mirakl.config import Tax
from tests.sandbox.mirakl.conftest import MakeWorld, Seller, World


async def test_an_order_goes_from_acceptance_to_its_end(seller: Seller) -> None:
    (order,) = await seller.sell()
    assert order["state"] == "WAITING_ACCEPTANCE"
    before = await seller.order(order["order_id"])
    assert before["customer"]["shipping_address"] is None
    assert (await seller.accept(order)).status == 204
    shown = await seller.order(order["order_id"])
    assert shown["order_state"] == "SHIPPING"
    assert shown["customer"]["shipping_address"]["lastname"]
    assert shown["acceptance_decision_date"] == "2026-01-05T08:00:00Z"
    tracking = {"carrier_code": "DHL", "tracking_number": "00340"}
    assert (await seller.call("OR23", json=tracking, order_id=order["order_id"])).status == 204
    assert (await seller.call("OR24", order_id=order["order_id"])).status == 204
    shown = await seller.order(order["order_id"])
    assert shown["order_state"] == "SHIPPED"
    assert shown["shipping_tracking_url"] == "https://www.dhl.com/track?id=00340"
    await seller.wait(604_800)
    assert (await seller.order(order["order_id"]))["order_state"] == "RECEIVED"
    await seller.wait(2_592_000)
    assert (await seller.order(order["order_id"]))["order_state"] == "CLOSED"


async def test_the_platform_refuses_what_the_shop_does_not_decide_in_time(seller: Seller) -> None:
    (order,) = await seller.sell()
    await seller.wait(172_799)
    assert (await seller.order(order["order_id"]))["order_state"] == "WAITING_ACCEPTANCE"
    await seller.wait(1)
    shown = await seller.order(order["order_id"])
    assert (shown["order_state"], shown["order_state_reason_code"]) == ("REFUSED", "ACCEPTANCE_TIMEOUT")
    assert shown["acceptance_decision_date"] is None
    assert shown["last_updated_date"] == "2026-01-07T08:00:00Z"
    assert (await seller.control("GET", "/summary"))["total"]["timed_out"] == 1


def _cases(order: dict[str, Any]) -> dict[str, tuple[Any, str, int]]:
    first, second = (line["id"] for line in order["lines"])
    return {
        "missing line": ([{"id": first, "accepted": True}], "ORDER_LINE_ACCEPTANCE_DECISION_MISSING", 400),
        "twice": (
            [{"id": first, "accepted": True}] * 2 + [{"id": second, "accepted": True}],
            "ORDER_LINE_DUPLICATE_ID",
            400,
        ),
        "null": ([None, {"id": first, "accepted": True}], "ORDER_LINE_NULL_ELEMENT", 400),
        "strange": ([{"id": "x", "accepted": True}], "ORDER_LINE_NOT_FOUND", 404),
        "no decision": ([{"id": first}, {"id": second, "accepted": True}], "VALIDATION_ERROR", 400),
    }


@pytest.mark.parametrize("case", ["missing line", "twice", "null", "strange", "no decision"])
async def test_or21_names_what_is_wrong_with_a_decision_and_changes_nothing(seller: Seller, case: str) -> None:
    lines = [{"sku": "SKU-000001"}, {"sku": "SKU-000002"}]
    (order,) = await seller.sell(lines=lines)
    body, code, status = _cases(order)[case]
    reply = await seller.call("OR21", json={"order_lines": body}, order_id=order["order_id"])
    assert (reply.status, reply.payload["code"]) == (status, code)
    assert (await seller.order(order["order_id"]))["order_state"] == "WAITING_ACCEPTANCE"


async def test_or21_refuses_orders_that_are_decided_unknown_or_not_the_sellers_to_decide(seller: Seller) -> None:
    (order,) = await seller.sell()
    await seller.accept(order)
    again = await seller.accept(order)
    assert (again.status, again.payload["code"]) == (400, "ORDER_INVALID_STATE")
    assert (await seller.control("GET", "/summary"))["total"]["doubled_decisions"] == 1
    unknown = await seller.accept({**order, "order_id": "nowhere-A"})
    assert (unknown.status, unknown.payload["code"]) == (404, "ORDER_NOT_FOUND")
    (theirs,) = await seller.sell(fulfilled_by="WAREHOUSE-9")
    refused = await seller.accept(theirs)
    assert (refused.status, refused.payload["code"]) == (400, "ORDER_FULFILLED_UNAUTHORIZED")


async def test_a_partial_acceptance_leaves_the_refused_line_behind_and_returns_its_stock(seller: Seller) -> None:
    before = await seller.control("GET", "/offers/alpha/2001?sku=SKU-000002")
    (order,) = await seller.sell(lines=[{"sku": "SKU-000001"}, {"sku": "SKU-000002", "quantity": 3}])
    first, second = (line["id"] for line in order["lines"])
    reply = await seller.call(
        "OR21",
        json={"order_lines": [{"id": first, "accepted": True}, {"id": second, "accepted": False}]},
        order_id=order["order_id"],
    )
    assert reply.status == 204
    shown = await seller.order(order["order_id"])
    assert [line["order_line_state"] for line in shown["order_lines"]] == ["SHIPPING", "REFUSED"]
    assert shown["price"] == shown["order_lines"][0]["price"]
    assert await seller.control("GET", "/offers/alpha/2001?sku=SKU-000002") | {"offers": []} == before | {"offers": []}
    after = await seller.control("GET", "/offers/alpha/2001?sku=SKU-000002")
    assert after["offers"][0]["quantity"] == before["offers"][0]["quantity"]


async def test_a_shop_without_partial_acceptance_says_so(world: World) -> None:
    south = world.seller_of("alpha-south-key")
    (order,) = await south.sell(shop=2002, lines=[{"sku": "SKU-000001"}, {"sku": "SKU-000002"}])
    first, second = (line["id"] for line in order["lines"])
    reply = await south.call(
        "OR21",
        json={"order_lines": [{"id": first, "accepted": True}, {"id": second, "accepted": False}]},
        order_id=order["order_id"],
    )
    assert (reply.status, reply.payload["code"]) == (400, "ORDER_PARTIAL_ACCEPTANCE_DISABLED")


@pytest.mark.parametrize("style", ["code", "errors", "message"])
async def test_error_codes_stand_where_the_sandbox_is_told_to_put_them(make_world: MakeWorld, style: str) -> None:
    world: World = await make_world(behaviour_error_envelope=style)
    reply = await world.seller.accept({"order_id": "nowhere-A", "lines": []})
    found = {
        "code": reply.payload.get("code"),
        "errors": (reply.payload.get("errors") or [{}])[0].get("code"),
        "message": reply.payload["message"].partition(":")[0],
    }
    assert found[style] == "ORDER_NOT_FOUND"


async def test_a_poll_finds_every_order_page_by_page_and_again_when_it_changes(seller: Seller) -> None:
    made = await seller.sell(count=25)
    seen: list[str] = []
    for offset in (0, 10, 20):
        query = {"start_update_date": "2026-01-05T08:00:00Z", "offset": offset}
        reply = await seller.call("OR11", query)
        assert reply.payload["total_count"] == 25
        seen += [order["order_id"] for order in reply.payload["orders"]]
    assert seen == [order["order_id"] for order in made]
    await seller.wait(3600)
    await seller.accept(made[3])
    reply = await seller.call("OR11", {"start_update_date": "2026-01-05T09:00:30Z"})
    assert [order["order_id"] for order in reply.payload["orders"]] == [made[3]["order_id"]], "the overlap is 60 s"


async def test_or11_filters_by_states_references_and_dates(seller: Seller) -> None:
    first, second = await seller.sell(count=2)
    (third,) = await seller.sell(reference_for_customer="R-3")
    await seller.accept(second)

    async def ids(**query: str) -> list[str]:
        await seller.wait(60)
        reply = await seller.call("OR11", query)
        return [order["order_id"] for order in reply.payload["orders"]]

    assert await ids(order_state_codes="SHIPPING,SHIPPED") == [second["order_id"]]
    assert await ids(order_references_for_customer="R-3") == [third["order_id"]]
    assert await ids(customer_debited="false", order="desc") == [third["order_id"], first["order_id"]]
    assert await ids(end_date="2026-01-01T00:00:00Z") == []
    assert await ids(has_incident="true") == []


async def test_the_sellers_own_number_can_be_written_found_and_taken_away(seller: Seller) -> None:
    (order,) = await seller.sell()
    body = {"orders": [{"order_id": order["order_id"], "references": {"order_reference_for_seller": "SF-1"}}]}
    reply = await seller.call("OR04", json=body)
    assert reply.payload["updated_orders"][0]["updated"]["references"] == {"order_reference_for_seller": "SF-1"}
    found = await seller.call("OR11", {"order_references_for_seller": "SF-1"})
    assert found.payload["total_count"] == 1
    await seller.wait(60)
    body["orders"][0]["references"] = {"order_reference_for_seller": None}
    body["orders"].append({"order_id": "nowhere-A"})
    reply = await seller.call("OR04", json=body)
    assert "errors" in reply.payload["updated_orders"][1]
    found = await seller.call("OR11", {"order_references_for_seller": "SF-1"})
    assert found.payload["total_count"] == 0


async def test_shipping_needs_a_tracking_where_the_shipping_type_demands_one(seller: Seller) -> None:
    (order,) = await seller.sell(shipping_type="EXP", state="SHIPPING")
    refused = await seller.call("OR24", order_id=order["order_id"])
    assert refused.status == 400
    assert refused.payload["message"] == "Tracking details are mandatory for this shipping method"
    nameless = await seller.call("OR23", json={"tracking_number": "1"}, order_id=order["order_id"])
    assert nameless.status == 400
    body = {"carrier_name": "Uncle Tom", "tracking_number": "1", "carrier_url": "https://tom.example/1"}
    assert (await seller.call("OR23", json=body, order_id=order["order_id"])).status == 204
    assert (await seller.call("OR24", order_id=order["order_id"])).status == 204
    assert (await seller.call("OR24", order_id=order["order_id"])).status == 400
    assert (await seller.control("GET", "/summary"))["total"]["doubled_shipments"] == 1


async def test_a_refund_takes_its_share_of_commission_and_the_last_one_what_is_left(seller: Seller) -> None:
    (order,) = await seller.sell(
        lines=[{"sku": "SKU-000001", "price": "100.01", "shipping_price": "5.00"}], state="SHIPPED"
    )
    line = order["lines"][0]["id"]

    async def refund(amount: str, shipping: str) -> Any:
        one = {"order_line_id": line, "amount": amount, "shipping_amount": shipping, "reason_code": "15"}
        return await seller.call("OR28", json={"refunds": [one]})

    assert (await refund("33.33", "0")).status == 200
    assert (await refund("66.69", "0")).payload["code"] == "VALIDATION_ERROR", "more than is left"
    assert (await refund("1.001", "0")).payload["code"] == "VALIDATION_ERROR", "tenths of a cent"
    assert (await refund("66.68", "5")).status == 200
    shown = (await seller.order(order["order_id"]))["order_lines"][0]
    assert shown["order_line_state"] == "REFUNDED"
    assert not shown["can_refund"]
    commission = sum(Decimal(str(one["commission_amount"])) for one in shown["refunds"])
    assert commission == Decimal(str(shown["commission_fee"]))
    assert (await refund("1", "0")).payload["code"] == "ORDER_INVALID_STATE"


async def test_refunds_need_a_reason_of_the_shop_and_all_of_a_call_or_none_takes_effect(seller: Seller) -> None:
    (order,) = await seller.sell(lines=[{"sku": "SKU-000001"}, {"sku": "SKU-000002"}], state="SHIPPED")
    first, second = (line["id"] for line in order["lines"])

    async def refund(*pairs: tuple[str, str]) -> Any:
        body = [
            {"order_line_id": line, "amount": 1, "shipping_amount": 0, "reason_code": reason} for line, reason in pairs
        ]
        return await seller.call("OR28", json={"refunds": body})

    assert (await refund((first, "15"), (second, "20"))).status == 400, "20 is the operator's"
    assert (await refund((first, "15"), ("strange", "15"))).status == 404
    assert (await seller.order(order["order_id"]))["order_lines"][0]["refunds"] == []
    reply = await refund((first, "15"), (second, "15"))
    assert len({one["order_refund_id"] for one in reply.payload["refunds"]}) == 1


async def test_only_unpaid_orders_can_be_canceled_whole_or_in_part(make_world: MakeWorld) -> None:
    world: World = await make_world(payment_workflow="PAY_ON_DELIVERY")
    seller = world.seller
    lines = [{"sku": "SKU-000001", "quantity": 2, "price": "10", "shipping_price": "0"}]
    (order,) = await seller.sell(lines=lines, state="SHIPPING")
    part = {"order_line_id": order["lines"][0]["id"], "amount": 10, "shipping_amount": 0, "quantity": 1}
    reply = await seller.call("OR30", json={"cancelations": [{**part, "reason_code": "35"}]})
    assert reply.status == 200
    shown = (await seller.order(order["order_id"]))["order_lines"][0]
    assert (shown["quantity"], shown["price"], len(shown["cancelations"])) == (1, 10.0, 1)
    assert (await seller.call("OR29", order_id=order["order_id"])).status == 204
    assert (await seller.order(order["order_id"]))["order_state"] == "CANCELED"
    (paid,) = await seller.sell(workflow="PAY_ON_ACCEPTANCE", state="SHIPPING")
    refused = await seller.call("OR29", order_id=paid["order_id"])
    assert (refused.status, refused.payload["code"]) == (400, "ORDER_INVALID_STATE")


async def test_custom_fields_are_checked_set_and_deleted(seller: Seller) -> None:
    (order,) = await seller.sell()

    async def put(code: str, value: Any) -> Any:
        body = {"order_additional_fields": [{"code": code, "value": value}]}
        await seller.wait(1)
        return (await seller.call("OR31", json=body, order_id=order["order_id"])).payload

    good = await put("note", "hello")
    assert good["order_update_result"]["order_additional_fields"] == [
        {"code": "note", "type": "STRING", "value": "hello"}
    ]
    for code, value in (("delivery-slot", "NOON"), ("checked", "x"), ("nothing", "x"), ("contract", None)):
        assert "order_update_errors" in await put(code, value)
    assert (await put("note", ""))["order_update_result"]["order_additional_fields"] == []


async def test_payment_can_be_late_refused_or_never_come(make_world: MakeWorld) -> None:
    world: World = await make_world(debit_seconds=None, debit_request_seconds=60.0)
    seller = world.seller
    paid, declined, unpaid = await seller.sell(count=3)
    for order in (paid, declined, unpaid):
        await seller.accept(order)
    assert (await seller.order(paid["order_id"]))["order_state"] == "WAITING_DEBIT"
    await seller.wait(60)
    await seller.control("POST", f"/orders/alpha/{paid['order_id']}/debit")
    await seller.control("POST", f"/orders/alpha/{declined['order_id']}/decline")
    assert (await seller.order(paid["order_id"]))["order_state"] == "SHIPPING"
    shown = await seller.order(declined["order_id"])
    assert (shown["order_state"], shown["order_state_reason_code"]) == ("CANCELED", "REFUSED_PAYMENT")
    await seller.wait(259_200)
    shown = await seller.order(unpaid["order_id"])
    assert (shown["order_state"], shown["order_state_reason_code"]) == ("CANCELED", "PAYMENT_TIMEOUT")


async def test_the_platform_can_accept_for_the_shop(make_world: MakeWorld) -> None:
    world: World = await make_world(order_acceptance="AUTOMATIC")
    (order,) = await world.seller.sell()
    shown = await world.seller.order(order["order_id"])
    assert (shown["order_state"], shown["acceptance_decision_date"]) == ("SHIPPING", None)


async def test_values_that_are_not_there_can_be_left_out(make_world: MakeWorld) -> None:
    world: World = await make_world(behaviour_null_style="absent")
    await world.seller.sell()
    async with world.seller.session.get(
        f"{world.seller.url}/alpha/api/orders", headers={"Authorization": "alpha-shop-key"}
    ) as answer:
        assert "null" not in await answer.text()


async def test_taxes_stand_beside_the_price_or_in_it(world: World) -> None:
    (inside,) = await world.seller.sell(lines=[{"sku": "SKU-000001", "price": "120", "shipping_price": "0"}])
    line = (await world.seller.order(inside["order_id"]))["order_lines"][0]
    assert line["taxes"][0]["amount"] == 20
    beta = world.seller_of("beta-shop-key", "/beta")
    (outside,) = await beta.sell(shop=3001, lines=[{"sku": "SKU-000001", "price": "100", "shipping_price": "0"}])
    line = (await beta.order(outside["order_id"]))["order_lines"][0]
    assert (line["price"], line["taxes"][0]["amount"]) == (100, 20)


async def test_taxes_of_a_refund_are_computed_where_proportional_and_asked_for_where_not(make_world: MakeWorld) -> None:
    taxes = [Tax("VAT", 0.2), Tax("FIXED", 0.1, "NONE")]
    world: World = await make_world(tax_mode="TAX_EXCLUDED", taxes=taxes)
    lines = [{"sku": "SKU-000001", "price": "100", "shipping_price": "0"}]
    (order,) = await world.seller.sell(lines=lines, state="SHIPPED")
    one = {"order_line_id": order["lines"][0]["id"], "amount": 50, "shipping_amount": 0, "reason_code": "15"}

    async def refund(**more: Any) -> Any:
        return await world.seller.call("OR28", json={"refunds": [{**one, **more}], "order_tax_mode": "TAX_EXCLUDED"})

    assert (await refund()).status == 400, "the amount of FIXED is not said"
    assert (await refund(taxes=[{"code": "FIXED", "amount": 10.01}])).status == 400, "more than there is"
    assert (await refund(taxes=[{"code": "FIXED", "amount": 0.001}])).status == 400
    assert (await refund(taxes=[{"code": "OTHER", "amount": 1}])).status == 400
    assert (await refund(taxes=[{"code": "FIXED", "amount": 4}], currency_iso_code="USD")).status == 400
    done = await refund(taxes=[{"code": "FIXED", "amount": 4}])
    assert [(tax["code"], tax["amount"]) for tax in done.payload["refunds"][0]["taxes"]] == [("VAT", 10), ("FIXED", 4)]
    await world.seller.control("PATCH", "/behaviour/alpha", {"partial_failure": "partial"})
    both = {"refunds": [{**one, "taxes": [{"code": "FIXED", "amount": 1}]}, {**one, "order_line_id": "nothing"}]}
    assert len((await world.seller.call("OR28", json=both)).payload["refunds"]) == 1
