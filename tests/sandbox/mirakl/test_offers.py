"""Imports of offers, stock, prices and products: states, partial errors, reports, what they leave untouched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.mirakl.conftest import MakeWorld, Reply, Seller, World


async def stock(seller: Seller, sku: str, shop: int = 2001) -> Any:
    found = await seller.control("GET", f"/offers{seller.place}/{shop}?sku={sku}")
    return found["offers"][0] if found["offers"] else None


def place_of(import_id: Any) -> dict[str, Any]:
    """The path parameter of an import; its published name is a word that Python keeps to itself."""
    return {"import": str(import_id)}


async def run(seller: Seller, code: str, file: str, **fields: str) -> Reply:
    """Sends a file and lets it be worked through."""
    reply = await seller.call(code, files={"file": file.encode(), **fields})
    await seller.wait(60)
    return reply


async def test_a_stock_file_goes_through_its_states_and_takes_effect_at_the_end(seller: Seller) -> None:
    file = b'"offer-sku";"quantity";"warehouse-code";"update-delete"\n"SKU-000001";"7";"";""\n'
    sent = await seller.call("STO01", files={"file": file})
    place = sent.payload["import_id"]
    assert sent.headers["Location"].endswith(f"/api/offers/stock/imports/{place}/status")
    states = []
    for _ in range(3):
        states.append((await seller.call("STO02", import_id=place)).payload["status"])
        assert ((await stock(seller, "SKU-000001"))["quantity"] == 7) == (states[-1] == "COMPLETE")
        await seller.control("PATCH", "/behaviour/alpha", {"enforce_limits": False})
        await seller.wait(1)
    assert states == ["WAITING", "RUNNING", "COMPLETE"]


async def test_bad_stock_lines_stop_no_others_and_can_be_sent_again_from_the_report(seller: Seller) -> None:
    before = await stock(seller, "SKU-000002")
    file = "offer-sku;quantity;update-delete\nSKU-000001;7;\nnothing;1;\nSKU-000002;many;\nSKU-000003;-1;\n"
    place = (await run(seller, "STO01", file)).payload["import_id"]
    status = (await seller.call("STO02", import_id=place)).payload
    assert (status["status"], status["lines_in_success"], status["lines_in_error"]) == ("COMPLETE", 1, 3)
    assert status["has_error_report"]
    report = (await seller.call("STO03", import_id=place)).raw.decode()
    lines = report.splitlines()
    assert lines[0] == '"error-line";"error-message";"offer-sku";"quantity";"update-delete"'
    assert lines[1].startswith('"3";"The offer with SKU \'nothing\' does not exist"')
    assert len(lines) == 4
    after = await stock(seller, "SKU-000002")
    assert after == before, "a stock file touches nothing else"


@pytest.mark.parametrize(("style", "status"), [("404", 404), ("204", 204), ("empty", 200)])
async def test_a_report_that_is_not_there_answers_as_told(make_world: MakeWorld, style: str, status: int) -> None:
    world: World = await make_world(behaviour_missing_report=style)
    place = (await run(world.seller, "STO01", "offer-sku;quantity\nSKU-000001;7\n")).payload["import_id"]
    reply = await world.seller.raw("GET", f"/api/offers/stock/imports/{place}/error_report")
    assert (reply.status, reply.raw if style != "404" else b"") == (status, b"")


async def test_a_file_with_the_wrong_delimiter_or_encoding_fails_as_a_whole(seller: Seller) -> None:
    for file in (b"offer-sku,quantity\nSKU-000001,7\n", "offer-sku;quantity\nSKÜ;7\n".encode("latin-1")):
        place = (await seller.call("STO01", files={"file": file})).payload["import_id"]
        await seller.wait(60)
        status = (await seller.call("STO02", import_id=place)).payload
        assert (status["status"], status["has_error_report"]) == ("FAILED", False)
    place = (await run(seller, "OF01", "price\n1\n", import_mode="NORMAL")).payload["import_id"]
    failed = (await seller.call("OF02", **place_of(place))).payload
    assert failed["status"] == "FAILED"
    assert "'sku'" in failed["reason_status"]


async def test_warehouses_are_counted_one_by_one(world: World) -> None:
    beta = world.seller_of("beta-shop-key", "/beta")
    file = "offer-sku,quantity,warehouse-code,update-delete\n"
    await run(beta, "STO01", file + "SKU-000001,3,MAIN,\nSKU-000001,4,NORTH,\nSKU-000002,1,SOUTH,\n")
    assert (await stock(beta, "SKU-000001", 3001))["quantity"] == 7
    await run(beta, "STO01", file + "SKU-000001,,MAIN,delete\n")
    assert (await stock(beta, "SKU-000001", 3001))["quantity"] == 4
    await run(beta, "STO01", file + "SKU-000001,9,,\n")
    offers = (await beta.call("OF21", {"sku": "SKU-000001"})).payload["offers"]
    assert (offers[0]["quantity"], offers[0]["warehouses"]) == (9, [])


async def test_the_same_file_again_gives_the_old_import_or_a_new_one_as_told(make_world: MakeWorld) -> None:
    world: World = await make_world(behaviour_enforce_limits=False)
    seller = world.seller
    offers = {"file": b"sku;price\nSKU-000001;9.99\n", "import_mode": "NORMAL"}
    ids = [(await seller.call("OF01", files=offers)).payload["import_id"] for _ in range(2)]
    assert ids[0] == ids[1]
    file = {"file": b"offer-sku;quantity\nSKU-000001;7\n"}
    ids = [(await seller.call("STO01", files=file)).payload["import_id"] for _ in range(2)]
    assert ids[0] != ids[1]
    await seller.control(
        "PATCH", "/behaviour/alpha", {"identical_offer_import": "new", "identical_stock_import": "existing"}
    )
    again = await seller.call("STO01", files=file)
    assert again.payload["import_id"] in ids
    assert (await seller.call("OF01", files=offers)).payload["import_id"] != ids[0]


async def test_an_offer_file_creates_changes_deletes_and_leaves_absent_columns_alone(seller: Seller) -> None:
    ean = (await stock(seller, "SKU-000005"))["ean"]
    before = await stock(seller, "SKU-000001")
    file = (
        "sku;product-id;product-id-type;price;state;update-delete\n"
        f"NEW-1;{ean};EAN;12.50;11;\n"
        "SKU-000001;;;19.99;;\n"
        "SKU-000002;;;;;delete\n"
        "NEW-2;123;EAN;12.50;11;\n"
        f"SKU-000003;{ean};EAN;12.50;11;\n"
        "NEW/3;;;1;11;\n"
        "SKU-000004;;;1.999;;\n"
    )
    reply = await run(seller, "OF01", file, import_mode="NORMAL")
    status = (await seller.call("OF02", **place_of(reply.payload["import_id"]))).payload
    assert (status["offer_inserted"], status["offer_updated"], status["offer_deleted"]) == (1, 1, 1)
    assert (status["lines_read"], status["lines_in_error"]) == (7, 4)
    changed = await stock(seller, "SKU-000001")
    assert (changed["price"], changed["quantity"]) == (19.99, before["quantity"])
    assert (await stock(seller, "SKU-000002"))["deleted"]
    report = (await seller.call("OF03", **place_of(reply.payload["import_id"]))).raw.decode().splitlines()
    assert report[0].endswith('"error-line";"error-message"')
    assert report[1].endswith('"5";"The product does not exist"')
    listed = (await seller.call("OF04")).payload["data"]
    assert listed[0]["import_id"] == reply.payload["import_id"]


async def test_a_replacing_file_deletes_what_it_does_not_name(seller: Seller) -> None:
    await run(seller, "OF01", "sku;price\nSKU-000001;9.99\n", import_mode="REPLACE")
    assert (await seller.call("OF21")).payload["total_count"] == 1
    reply = await seller.call("OF22", offer=str((await stock(seller, "SKU-000002"))["offer_id"]))
    assert reply.status == 404


async def test_a_partial_update_applies_only_cells_that_are_not_blank(seller: Seller) -> None:
    file = "sku;price;description\nSKU-000001;9.99;good\n"
    await run(seller, "OF01", file, import_mode="NORMAL")
    file = "sku;price;description\nSKU-000001;8.88;\nNEW;1;\n"
    reply = await run(seller, "OF01", file, import_mode="PARTIAL_UPDATE")
    offer = (await seller.call("OF21", {"sku": "SKU-000001"})).payload["offers"][0]
    assert (offer["price"], offer["description"]) == (8.88, "good")
    status = (await seller.call("OF02", **place_of(reply.payload["import_id"]))).payload
    assert status["lines_in_error"] == 1


async def test_of24_resets_every_field_that_is_not_sent(seller: Seller) -> None:
    full: dict[str, Any] = {
        "shop_sku": "SKU-000001",
        "product_id": "",
        "product_id_type": "",
        "update_delete": "update",
        "price": 50,
        "quantity": 12,
        "state_code": "11",
        "description": "good",
        "min_order_quantity": 2,
        "allow_quote_requests": True,
        "discount": {"price": 40, "start_date": "2026-01-01", "end_date": "2026-12-31"},
        "offer_additional_fields": [{"code": "gift-wrap", "type": "BOOLEAN", "value": "true"}],
    }
    await seller.call("OF24", json={"offers": [full]})
    await seller.wait(60)
    shown = (await seller.call("OF21", {"sku": "SKU-000001"})).payload["offers"][0]
    assert (shown["quantity"], shown["price"], shown["min_order_quantity"]) == (12, 40, 2)
    assert shown["offer_additional_fields"][0]["value"] == "true"
    bare = {"shop_sku": "SKU-000001", "price": "51.5", "update_delete": ""}
    reply = await seller.call("OF24", json={"offers": [bare]})
    assert reply.headers["Location"].endswith(f"/api/offers/imports/{reply.payload['import_id']}")
    await seller.wait(60)
    shown = (await seller.call("OF21", {"sku": "SKU-000001"})).payload["offers"][0]
    assert (shown["quantity"], shown["price"], shown["min_order_quantity"]) == (0, 51.5, None)
    assert (shown["description"], shown["allow_quote_requests"]) == (None, False)
    assert shown["inactivity_reasons"] == ["ZERO_QUANTITY"]
    assert (await seller.control("GET", "/violations"))["counts"] == {"string_for_number": 1}


async def test_offers_are_listed_page_by_page_in_the_order_asked_for(seller: Seller) -> None:
    prices: list[float] = []
    for offset in (0, 10):
        reply = await seller.call("OF21", {"offset": offset, "max": 10})
        prices += [offer["total_price"] for offer in reply.payload["offers"]]
    assert len(prices) == 20
    assert prices == sorted(prices)
    reply = await seller.call("OF21", {"sort": "productTitle", "order": "desc"})
    titles = [offer["product_title"] for offer in reply.payload["offers"]]
    assert titles == sorted(titles, reverse=True)
    assert 'rel="next"' in reply.headers["Link"]


async def test_prices_replace_all_an_offer_had_and_one_bad_price_spares_the_offer(world: World) -> None:
    beta = world.seller_of("beta-shop-key", "/beta")
    file = (
        "offer-sku,price,discount-price,discount-start-date,discount-end-date,channels,price-ranges\n"
        'SKU-000001,100,90,2026-01-01,2026-12-31,,"5|95,10|85"\n'
        "SKU-000001,80,,,,IE,\n"
        "SKU-000002,10,,,,,\n"
        "SKU-000002,x,,,,GB,\n"
        "nothing,10,,,,,\n"
    )
    before = await stock(beta, "SKU-000002", 3001)
    place = (await run(beta, "PRI01", file)).payload["import_id"]
    row = (await beta.call("PRI02", {"import_id": place})).payload["data"][0]
    assert (row["status"], row["offers_updated"], row["offers_in_error"]) == ("COMPLETE", 1, 2)
    assert (row["lines_in_success"], row["lines_in_error"]) == (2, 3)
    report = (await beta.call("PRI03", import_id=place)).raw.decode().splitlines()
    assert len(report) == 4, "all lines of an offer with a bad price"
    assert (await stock(beta, "SKU-000002", 3001))["price"] == before["price"]
    query = {"sku": "SKU-000001", "pricing_channel_code": "IE"}
    offer = (await beta.call("OF21", query)).payload["offers"][0]
    assert (offer["price"], len(offer["all_prices"])) == (80, 2)
    offer = (await beta.call("OF22", offer=str(offer["offer_id"]))).payload
    assert offer["price"] == 90
    await run(beta, "PRI01", "offer-sku,price\nSKU-000001,70\n")
    offer = (await beta.call("OF21", {"sku": "SKU-000001"})).payload["offers"][0]
    assert (offer["price"], len(offer["all_prices"])) == (70, 1)


async def test_a_product_file_makes_products_an_offer_can_name(seller: Seller) -> None:
    file = "shop_sku;category;title;ean\nP-1;coffee;Percolator;4006381333931\nP-2;nowhere;Bad;\n"
    place = str((await seller.call("P41", files={"file": file.encode()})).payload["import_id"])
    states = [(await seller.call("P42", **place_of(place))).payload["import_status"]]
    await seller.wait(60)
    done = (await seller.call("P42", **place_of(place))).payload
    assert (states, done["import_status"]) == (["TRANSFORMATION_WAITING"], "COMPLETE")
    assert (done["transform_lines_in_success"], done["transform_lines_in_error"]) == (1, 1)
    await run(seller, "OF01", "sku;price;state;quantity\nP-1;10;11;4\n", import_mode="NORMAL")
    offer = (await seller.call("OF21", {"sku": "P-1"})).payload["offers"][0]
    assert (offer["product_title"], offer["quantity"], offer["active"]) == ("Percolator", 4, True)


async def test_offers_and_products_can_come_in_one_file(seller: Seller) -> None:
    file = b"sku;shop_sku;category;title;price;state\nP-9;P-9;coffee;Grinder;10;11\n"
    fields = {"file": file, "import_mode": "NORMAL", "with_products": "true"}
    reply = await seller.call("OF01", files=fields)
    status = (await seller.call("OF02", **place_of(reply.payload["import_id"]))).payload
    assert status["status"] == "WAITING_SYNCHRONIZATION_PRODUCT"
    await seller.wait(61)
    assert (await seller.call("OF21", {"sku": "P-9"})).payload["total_count"] == 1
    product = await seller.call("P42", **place_of(reply.payload["product_import_id"]))
    assert product.payload["import_status"] == "COMPLETE"


@pytest.mark.parametrize("kind", ["application/json", "text/csv"])
async def test_an_offer_export_shows_what_changed_since_and_what_was_deleted(seller: Seller, kind: str) -> None:
    since = (await seller.control("GET", "/clock"))["now"]
    await seller.wait(1)
    await run(seller, "OF01", "sku;price;update-delete\nSKU-000001;9.99;\nSKU-000002;;delete\n", import_mode="NORMAL")
    (order,) = await seller.sell(lines=[{"sku": "SKU-000003"}])
    body = {"export_type": kind, "last_request_date": "2026-01-05T08:00:01Z", "items_per_chunk": 2}
    assert since == "2026-01-05T08:00:00Z"
    tracking = (await seller.call("OF52", json=body)).payload["tracking_id"]
    assert (await seller.call("OF53", tracking_id=tracking)).payload["status"] == "PENDING"
    await seller.wait(10)
    done = (await seller.call("OF53", tracking_id=tracking)).payload
    assert (done["status"], len(done["urls"])) == ("COMPLETED", 2)
    texts = []
    for url in done["urls"]:
        async with seller.session.get(url, headers={"Authorization": seller.key}) as answer:
            assert answer.content_type == kind
            texts.append(await answer.text())
    assert all("SKU-000003" not in text for text in texts[:1])
    assert "SKU-000003" in texts[1]
    assert "SKU-000002" in texts[0]
    assert order["lines"][0]["sku"] == "SKU-000003"


async def test_an_offer_export_refuses_inactive_offers_with_a_date(seller: Seller) -> None:
    body = {"include_inactive_offers": True, "last_request_date": "2026-01-05T08:00:00Z"}
    assert (await seller.call("OF52", json=body)).status == 400
    await seller.wait(60)
    full = await seller.call("OF52", json={"export_type": "application/json"})
    assert full.status == 200
    await seller.wait(60)
    assert (await seller.call("OF52", json={})).status == 429, "a full export once a day"
