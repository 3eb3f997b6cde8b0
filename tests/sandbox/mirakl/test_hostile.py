"""What nobody should send is answered with a sentence, never with a 500, and leaves the sandbox usable."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from sandbox.common.sealing import opened
from tests.sandbox.mirakl.conftest import Seller, World

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        rb'{"orders": [{"order_id": "\ud800"}]}',
        '{"orders": [{"order_id": "é"}]}'.encode("latin-1"),
        '{"orders": []}'.encode("utf-16"),
        b"[" * 200_000,
        b"",
        b"null",
    ],
    ids=["half a surrogate pair", "Latin-1", "UTF-16", "too deep", "nothing", "null"],
)
async def test_a_body_that_is_no_json_in_utf8_is_refused(seller: Seller, body: bytes) -> None:
    reply = await seller.raw("PUT", "/api/orders", data=body, headers=JSON)
    assert reply.status == 400
    assert (await seller.call("OR11")).status == 200, "nothing of it is kept"


async def test_a_body_that_is_not_compressed_as_it_says_is_refused(seller: Seller) -> None:
    reply = await seller.raw("PUT", "/api/orders", data=b"no gzip", headers={**JSON, "Content-Encoding": "gzip"})
    assert reply.status == 400


async def test_a_page_token_is_taken_only_as_it_was_given(seller: Seller) -> None:
    for price in (5, 6):
        file = f"sku;price\nSKU-000001;{price}\n".encode()
        await seller.call("OF01", files={"import_mode": "NORMAL", "file": file})
        await seller.wait(60)
    first = await seller.call("OF04", {"limit": "1"})
    token = first.payload["next_page_token"]
    content = json.loads(opened(token))
    changed = json.dumps(content | {"size": "many"}).encode()
    for forged in (
        base64.urlsafe_b64encode(base64.urlsafe_b64decode(token)[:8] + changed).decode(),
        base64.urlsafe_b64encode(changed).decode(),
        "é",
        "",
    ):
        assert (await seller.call("OF04", {"page_token": forged})).status == 400
    assert len((await seller.call("OF04", {"page_token": token})).payload["data"]) == 1


async def test_a_file_that_no_csv_reader_takes_fails_and_time_goes_on(seller: Seller) -> None:
    file = b'offer-sku;quantity\nSKU-000001;5\n"' + b"a" * 200_000 + b'";3\n'
    made = await seller.call("STO01", files={"file": file})
    await seller.wait(60)
    status = await seller.call("STO02", import_id=made.payload["import_id"])
    assert status.payload["status"] == "FAILED"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/orders", {"marketplace": "alpha", "shop": 2001, "lines": [{"sku": "SKU-000001", "price": "NaN"}]}),
        ("/orders", {"marketplace": "alpha", "shop": 2001, "lines": [{"sku": "SKU-000001", "price": "Infinity"}]}),
        ("/orders", {"marketplace": "alpha", "shop": 2001, "lines": [{"sku": "SKU-000001", "price": "-1"}]}),
        ("/offers", {"marketplace": "alpha", "shop": 2001, "offers": [{"sku": "Z", "price": "1e999"}]}),
        ("/offers", {"marketplace": "alpha", "shop": 2001, "offers": [{"sku": "Z", "quantity": -1}]}),
        ("/ledger", {"marketplace": "alpha", "shop": 2001, "type": "SELLER_PENALTY_FEE", "amount": "sNaN"}),
        ("/clock", {"advance_seconds": 1e300}),
        ("/clock", {"to": "9999-12-31T23:59:59Z"}),
        ("/faults", {"kind": "status", "headers": {"X-Note": "a\r\nSet-Cookie: b"}}),
    ],
)
async def test_control_refuses_what_would_break_the_sandbox_later(seller: Seller, path: str, body: Any) -> None:
    told = await seller.control("POST", path, body, expect=400)
    assert told["message"]
    assert (await seller.call("OR11")).payload["total_count"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/behaviour/alpha", {"limits": {"OR11": [[0, 5]]}}),
        ("/behaviour/alpha", {"limits": {"OR11": [[5, 1e11]]}}),
        ("/behaviour/alpha", {"update_overlap_seconds": -1}),
        ("/config/alpha", {"acceptance_seconds": 1e11}),
        ("/config/alpha", {"received_seconds": -1}),
    ],
)
async def test_times_and_limits_of_a_running_marketplace_stay_within_reason(
    seller: Seller, path: str, body: Any
) -> None:
    await seller.control("PATCH", path, body, expect=400)
    assert (await seller.call("OR11")).status == 200


async def test_lists_that_are_emptied_become_the_usual_ones(seller: Seller) -> None:
    await seller.control("PATCH", "/config/alpha", {"shipping_types": []})
    await seller.control("PUT", "/carriers/alpha", [])
    (order,) = await seller.sell(state="SHIPPED")
    assert order["state"] == "SHIPPED"


async def test_a_negative_page_of_the_control_api_is_refused(seller: Seller) -> None:
    told = await seller.control("GET", "/offers/alpha/2001?offset=-1", expect=400)
    assert "negative" in told["message"]


async def test_rows_can_be_taken_out_of_a_page_and_odd_paths_change_nothing(seller: Seller) -> None:
    await seller.sell(3)
    for path, left in (("orders.*", 0), ("orders.²", 3), ("orders.0.order_state.deeper", 3)):
        await seller.control("POST", "/faults", {"kind": "remove_value", "operation": "OR11", "path": path, "count": 1})
        assert len((await seller.call("OR11", closed=False)).payload["orders"]) == left
        await seller.wait(60)


async def test_of_many_decisions_at_once_one_takes_effect(world: World) -> None:
    (order,) = await world.seller.sell()
    replies = await asyncio.gather(*(world.seller.accept(order, accepted=number % 2 == 0) for number in range(20)))
    assert sorted(reply.status for reply in replies) == [204] + [400] * 19
    assert (await world.seller.control("GET", "/summary"))["total"]["doubled_decisions"] == 19
