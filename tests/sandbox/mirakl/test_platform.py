"""What a seller reads once: every such call answers in the contract's form."""

from __future__ import annotations

import pytest

from tests.sandbox.mirakl.conftest import MakeWorld, Seller, World

LISTS = ("PC01", "A01", "A21", "L01", "CUR01", "CH11", "AF01", "RE01", "SH21", "OF61", "H11", "PM11", "VL11")


@pytest.mark.parametrize("code", LISTS)
@pytest.mark.parametrize("marketplace", ["alpha", "beta"])
async def test_reference_lists_answer_in_the_contracts_form(world: World, code: str, marketplace: str) -> None:
    seller = world.seller_of(f"{marketplace}-shop-key", f"/{marketplace}")
    reply = await seller.call(code)
    assert reply.status == 200
    assert reply.headers["Mirakl-Api-Code"] == code
    limited = code not in ("PC01", "RE01")
    assert (await seller.call(code)).status == (429 if limited else 200)


async def test_the_platform_configuration_says_what_the_sandbox_does(world: World, make_world: MakeWorld) -> None:
    beta = await world.seller_of("beta-shop-key", "/beta").call("PC01")
    assert beta.payload["features"]["order_tax_mode"] == "TAX_EXCLUDED"
    assert beta.payload["features"]["operator_csv_delimiter"] == "COMMA"
    assert beta.payload["features"]["shipment"]["multi_shipment"]
    other: World = await make_world(platform={"features.returns.marketplace": True})
    assert (await other.seller.call("PC01")).payload["features"]["returns"]["marketplace"]


async def test_a_branch_of_the_catalogue_holds_parents_and_children(seller: Seller) -> None:
    reply = await seller.call("H11", {"hierarchy": "kitchen"})
    assert [one["code"] for one in reply.payload["hierarchies"]] == ["home", "kitchen", "coffee"]
    attributes = (await seller.call("PM11", {"hierarchy": "garden"})).payload["attributes"]
    assert {one["hierarchy_code"] for one in attributes} == {""}


async def test_products_are_found_by_their_ean(world: World) -> None:
    offers = (await world.seller.control("GET", "/offers/alpha/2001"))["offers"]
    eans = [offer["ean"] for offer in offers[:2]]
    references = f"EAN|{eans[0]},EAN|{eans[1]},EAN|0000000000000"
    reply = await world.seller.call("P31", {"product_references": references})
    assert [one["product_id"] for one in reply.payload["products"]] == eans
    assert (await world.seller.call("P31", {"product_references": "x"})).status == 400
    assert (await world.seller.call("P31")).status == 400


async def test_balances_and_statistics_follow_what_happened(seller: Seller) -> None:
    await seller.sell(state="RECEIVED")
    await seller.sell(state="SHIPPED")
    account = (await seller.call("A01")).payload
    assert account["payment_details"]["pending_balance"] > 0
    assert account["payment_details"]["payable_balance"] > 0
    statistics = (await seller.call("A21", {"periods": "LAST_MONTH,LAST_YEAR"})).payload
    assert [one["period"] for one in statistics["total_revenue"]] == ["LAST_MONTH", "LAST_YEAR"]
    assert statistics["total_revenue"][0]["value"] > 0
