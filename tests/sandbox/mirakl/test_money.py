"""Transaction lines, cycles, payouts and documents: signs, sums, negative balances, reserve."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tests.sandbox.mirakl.conftest import MakeWorld, Seller, World


def finance(world: World) -> Seller:
    return world.seller_of("alpha-finance-key")


async def entries(world: World, **query: Any) -> list[dict[str, Any]]:
    reply = await finance(world).call("TL02", {"limit": 2000, "sort": "dateCreated,ASC", **query})
    assert reply.status == 200
    rows: list[dict[str, Any]] = json.loads(reply.raw, parse_float=Decimal)["data"]
    return rows


def total(rows: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(row["amount"]) for row in rows), Decimal(0))


PLAIN = [{"sku": "SKU-000001", "price": "100.00", "shipping_price": "5.00"}]


async def test_a_sale_and_its_refund_have_the_sellers_signs_and_a_running_balance(world: World) -> None:
    (order,) = await world.seller.sell(lines=PLAIN, state="SHIPPED")
    rows = await entries(world)
    assert [(row["type"], row["amount"]) for row in rows] == [
        ("ORDER_AMOUNT", Decimal("100.00")),
        ("ORDER_SHIPPING_AMOUNT", Decimal("5.00")),
        ("COMMISSION_FEE", Decimal("-15.75")),
        ("COMMISSION_VAT", Decimal("-3.15")),
    ]
    assert {row["payment_state"] for row in rows} == {"PENDING"}
    await world.seller.control("POST", f"/orders/alpha/{order['order_id']}/receive")
    await world.seller.control("POST", f"/orders/alpha/{order['order_id']}/refund")
    rows = await entries(world)
    assert {row["payment_state"] for row in rows} == {"PAYABLE"}
    assert total(rows) == 0
    balance = Decimal(0)
    for row in rows:
        balance += row["amount"]
        assert row["balance"] == balance
        assert row["amount"] == row["amount_credited"] - row["amount_debited"]
        assert row["entities"]["order"]["id"] == order["order_id"]


async def test_taxes_beside_the_price_have_lines_of_their_own(world: World) -> None:
    beta = world.seller_of("beta-shop-key", "/beta")
    await beta.sell(shop=3001, lines=PLAIN, state="SHIPPING")
    reply = await world.seller_of("beta-finance-key", "/beta").call("TL02", {"transaction_type": "ORDER_AMOUNT_TAX"})
    (row,) = reply.payload["data"]
    assert (row["amount"], row["entities"]["order_tax"]) == (20, {"code": "VAT-GB", "rate": 20})
    assert row["currency_iso_code"] == "GBP"


async def test_an_open_incident_keeps_the_money_waiting(world: World) -> None:
    (order,) = await world.seller.sell(state="RECEIVED")
    place = f"/orders/alpha/{order['order_id']}"
    await world.seller.control("POST", f"{place}/open_incident")
    assert {row["payment_state"] for row in await entries(world)} == {"PENDING"}
    assert (await world.seller.order(order["order_id"]))["has_incident"]
    await world.seller.control("POST", f"{place}/close_incident")
    assert {row["payment_state"] for row in await entries(world)} == {"PAYABLE"}


async def test_the_lines_of_a_paid_cycle_add_up_to_nothing_and_to_its_record(make_world: MakeWorld) -> None:
    world: World = await make_world(subscription=20.0, reserve_rate=0.1, reserve_target=5.0)
    seller = world.seller
    (order,) = await seller.sell(lines=PLAIN, state="RECEIVED")
    await seller.sell(lines=PLAIN, state="SHIPPED")
    part = {"amount": "10", "shipping_amount": "0"}
    await seller.control("POST", f"/orders/alpha/{order['order_id']}/return", part)
    manual = {"marketplace": "alpha", "shop": 2001, "type": "MANUAL_CREDIT", "amount": "7.50", "tax_rate": "0.2"}
    await seller.control("POST", "/ledger", manual)
    await seller.control("POST", "/ledger", {**manual, "type": "SELLER_PENALTY_FEE", "amount": "1"})
    paid = await seller.control("POST", "/payouts", {"marketplace": "alpha", "shop": 2001})
    (payout,) = paid["payouts"]
    rows = await entries(world, seller_billing_cycle_id=payout["cycle"])
    assert total(rows) == 0
    by_type = {row["type"]: Decimal(row["amount"]) for row in rows}
    assert by_type["PAYMENT"] == -Decimal(str(payout["amount"]))
    assert by_type["RESERVE_FUNDING"] == Decimal("-5.0")
    assert by_type["SUBSCRIPTION_FEE"] == -20
    assert by_type["SELLER_PENALTY_FEE"] == -1
    assert {row["payment_state"] for row in rows} == {"PAID", "RESERVE"}
    (cycle,) = json.loads((await seller.call("SBC11")).raw, parse_float=Decimal)["data"]
    assert cycle["amount_transferred_to_seller"] == -by_type["PAYMENT"]
    assert cycle["pay_out"]["state"] == "PAID"
    summary = cycle["summary"]
    shares = (
        "commissions", "refund_commissions", "subscription", "other_credits", "other_invoices",
        "seller_fees_on_orders", "seller_penalty_fees",
    )  # fmt: skip
    assert cycle["amount_transferred_to_operator"] == -sum(summary[f"total_{name}_incl_tax"] for name in shares)
    assert cycle["amount_transferred_to_seller"] == (
        summary["total_payable_orders_incl_tax"]
        + summary["total_refund_payable_orders_incl_tax"]
        - cycle["amount_transferred_to_operator"]
        + by_type["RESERVE_FUNDING"]
    )
    invoices = (await seller.call("IV01")).payload["invoices"]
    assert [one["type"] for one in invoices] == ["AUTO_INVOICE"]
    assert invoices[0]["summary"]["reserve_funding"] == -5
    await seller.wait(86_400)
    every = (await seller.call("IV01", {"type": "ALL"})).payload["invoices"]
    assert [one["type"] for one in every] == ["MANUAL_CREDIT", "AUTO_INVOICE"]
    file = await seller.call("IV02", accounting_document_id=str(invoices[0]["invoice_id"]))
    assert str(invoices[0]["invoice_id"]).encode() in file.raw


async def test_a_negative_sum_is_carried_into_the_next_cycle(world: World) -> None:
    seller = world.seller
    debit = {"marketplace": "alpha", "shop": 2001, "type": "MANUAL_INVOICE", "amount": "50"}
    await seller.control("POST", "/ledger", debit)
    assert (await seller.control("POST", "/payouts", {"marketplace": "alpha"}))["payouts"] == []
    assert (await entries(world))[0]["payment_state"] == "PAYABLE"
    await seller.sell(lines=PLAIN, state="RECEIVED")
    (payout,) = (await seller.control("POST", "/payouts", {"marketplace": "alpha"}))["payouts"]
    assert payout["amount"] == 36.10, "100 + 5 - 15.75 - 3.15 - 50"


async def test_a_payout_can_fail_and_be_confirmed_later(world: World) -> None:
    seller = world.seller
    await seller.sell(state="RECEIVED")
    paying = {"marketplace": "alpha", "shop": 2001, "confirm": False}
    (payout,) = (await seller.control("POST", "/payouts", paying))["payouts"]
    assert payout["state"] == "TO_PAY"
    place = f"/payouts/alpha/{payout['cycle']}"
    await seller.control("POST", place, {"result": "FAILED"})
    cycle = (await seller.call("SBC11", {"pay_out_state": "FAILED"})).payload["data"][0]
    assert cycle["pay_out"]["failure_reason"] == "INCOMPLETE_KYC"
    await seller.control("POST", place, {"reference": "BANK-1"})
    await seller.control("POST", place, {}, expect=400)
    await seller.wait(86_400)
    cycle = (await seller.call("SBC11")).payload["data"][0]
    assert (cycle["pay_out"]["state"], cycle["pay_out"]["reference"]) == ("PAID", "BANK-1")


async def test_reserve_comes_back_when_it_is_released(make_world: MakeWorld) -> None:
    world: World = await make_world(reserve_rate=0.5)
    seller = world.seller
    for _ in range(2):
        await seller.sell(lines=PLAIN, state="RECEIVED")
        await seller.control("POST", "/payouts", {"marketplace": "alpha", "shop": 2001, "release_reserve": "10"})
    rows = await entries(world)
    assert [(row["type"], row["amount"]) for row in rows if row["type"].startswith("RESERVE")] == [
        ("RESERVE_FUNDING", Decimal("-43.05")),
        ("RESERVE_FUNDING", Decimal("-43.05")),
        ("RESERVE_SETTLEMENT", Decimal("10.00")),
    ]


async def test_cycles_can_end_by_themselves(make_world: MakeWorld) -> None:
    world: World = await make_world(cycle_seconds=864_000.0)
    await world.seller.sell(state="RECEIVED")
    await world.seller.wait(864_000)
    (cycle,) = (await world.seller.call("SBC11")).payload["data"]
    assert (cycle["date_created"], cycle["pay_out"]["state"]) == ("2026-01-15T08:00:00Z", "PAID")


async def test_transaction_lines_are_read_page_by_page_in_both_orders(world: World) -> None:
    await world.seller.sell(count=5, most_lines=1, state="RECEIVED")
    for sort in ("dateCreated,DESC", "dateCreated,ASC", "lastUpdated,ASC", "lastUpdated,DESC"):
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 3, "sort": sort}
        for _ in range(20):
            payload = (await finance(world).call("TL02", query)).payload
            seen += [row["id"] for row in payload["data"]]
            if payload.get("next_page_token") is None:
                break
            query = {"page_token": payload["next_page_token"]}
            await world.seller.wait(3)
        rows = await entries(world, sort=sort)
        assert seen == [row["id"] for row in rows]
        await world.seller.wait(3600)
    assert (await finance(world).call("TL02", {"page_token": "nonsense"})).status == 400


async def test_lines_that_changed_state_come_back_to_who_polls_by_change(world: World) -> None:
    (order,) = await world.seller.sell(state="SHIPPED")
    await world.seller.wait(100)
    since = {"last_updated_from": "2026-01-05T08:01:00Z", "sort": "lastUpdated,ASC"}
    assert (await finance(world).call("TL02", since)).payload["data"] == []
    await world.seller.control("POST", f"/orders/alpha/{order['order_id']}/receive")
    assert len((await finance(world).call("TL02", since)).payload["data"]) >= 3


async def test_transaction_lines_can_be_exported(world: World) -> None:
    await world.seller.sell(state="RECEIVED")
    body = {"format": "NDJSON", "transaction_type": ["ORDER_AMOUNT", "COMMISSION_FEE"]}
    tracking = (await finance(world).call("TL03", json=body)).payload["tracking_id"]
    await world.seller.wait(10)
    done = (await finance(world).call("TL04", tracking_id=tracking)).payload
    async with world.seller.session.get(done["urls"][0], headers={"Authorization": "alpha-finance-key"}) as answer:
        assert answer.content_type == "application/x-ndjson"
        kinds = {json.loads(line)["type"] for line in (await answer.text()).splitlines()}
    assert kinds == {"ORDER_AMOUNT", "COMMISSION_FEE"}


async def test_workflows_write_the_sale_when_the_customer_pays(make_world: MakeWorld) -> None:
    world: World = await make_world()
    for workflow, state in (
        ("PAY_ON_ACCEPTANCE", "SHIPPING"),
        ("PAY_ON_SHIPMENT", "SHIPPED"),
        ("NO_CUSTOMER_PAYMENT_CONFIRMATION", "SHIPPED"),
        ("PAY_ON_DELIVERY", "RECEIVED"),
        ("PAY_ON_DUE_DATE", "RECEIVED"),
    ):
        (order,) = await world.seller.sell(workflow=workflow)
        await world.seller.accept(order)
        reached = []
        for action in (None, "ship", "receive"):
            if action:
                await world.seller.control("POST", f"/orders/alpha/{order['order_id']}/{action}")
            found = await entries(world, order_id=order["order_id"])
            if found:
                reached.append((await world.seller.order(order["order_id"]))["order_state"])
        assert reached[0] == state, workflow
