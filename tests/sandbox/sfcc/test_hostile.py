"""What nobody should send is answered with a sentence, never with a 500, and leaves the sandbox usable."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from sandbox.common.sealing import opened
from tests.sandbox.sfcc.kit import AVAILABILITY, ORDERS, RESERVATION, TSOB, Sandbox, order


async def signed(sfcc: Sandbox, kind: str) -> dict[str, str]:
    """Headers of a call whose body is written by hand."""
    token = (await sfcc.token(kind)).json["access_token"]
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


@pytest.mark.parametrize("number", ["1e999999", "-1e400", "99999999999999999999999999999999"])
@pytest.mark.parametrize("member", ['"orderTotal": 66.91', '"quantity": 2', '"tax": 12.39', '"basePrice": 30.98'])
async def test_a_number_beyond_all_bounds_is_refused_and_kept_nowhere(sfcc: Sandbox, member: str, number: str) -> None:
    text = json.dumps(order(), default=float).replace(member, member.split()[0] + " " + number)
    headers = await signed(sfcc, "tsob")
    reply = await sfcc.send("POST", f"{ORDERS}?siteId=MainSite", data=text.encode(), headers=headers)
    assert reply.status == 400
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).json["data"] == []


@pytest.mark.parametrize(
    "body", [b'{"orderNo": "\\ud800"}', "é".encode("latin-1"), b"{}".ljust(3, b"\0"), b"[" * 200_000, b""]
)
async def test_a_body_that_is_no_json_in_utf8_is_refused(sfcc: Sandbox, body: bytes) -> None:
    headers = await signed(sfcc, "tsob")
    reply = await sfcc.send("POST", f"{ORDERS}?siteId=MainSite", data=body, headers=headers)
    assert reply.status == 400


async def test_a_body_that_is_not_compressed_as_it_says_is_refused(sfcc: Sandbox) -> None:
    reply = await sfcc.send("POST", TSOB, data=b"no gzip", headers={"Content-Encoding": "gzip"})
    assert reply.status == 400


async def test_an_expiry_of_many_digits_is_refused_at_once(sfcc: Sandbox) -> None:
    groups = b'[{"id": "web", "reservations": [{"sku": "P000001", "quantity": 1}]}]'
    body = b'{"expirationSeconds": 1e999999, "groups": ' + groups + b"}"
    headers = await signed(sfcc, "am")
    path = f"{RESERVATION}/reservation-documents/0b0e8f3a-2c7d-4a44-9a1b-6c1d2e3f4a5b"
    reply = await asyncio.wait_for(sfcc.send("PUT", path, data=body, headers=headers), 20)
    assert reply.status == 400


async def test_a_delta_token_is_taken_only_as_it_was_given(sfcc: Sandbox) -> None:
    asked = {"placeType": "GROUP", "places": ["web"]}
    token: str = (await sfcc.admin("POST", f"{AVAILABILITY}/delta-token", asked)).json["deltaToken"]
    held = json.loads(opened(token.removeprefix("@")))
    signature = base64.urlsafe_b64decode(token.removeprefix("@"))[:8]
    for change in ({"t": None}, {"p": 5}, {"n": "x"}, {"i": 5}):
        content = json.dumps(held | change).encode()
        for forged in (content, signature + content):
            body = {"deltaToken": "@" + base64.urlsafe_b64encode(forged).decode()}
            reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", body)
            assert reply.status == 400
    reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token})
    assert reply.status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/orders/sell", {"items": [{"product_id": "P000001", "quantity": "-5"}]}),
        ("POST", "/orders/sell", {"items": [{"product_id": "P000001", "quantity": "NaN"}]}),
        ("PUT", "/stock", {"product_id": "P000001", "on_hand": "Infinity"}),
        ("PUT", "/prices", {"price_book": "eur-list", "product_id": "P000001", "amount": "-1"}),
        ("POST", "/storefront", {"seconds_between_orders": 0.000001}),
        ("POST", "/warehouse", {"seconds_to_ship": -1}),
        ("POST", "/clock", {"to": "9999-12-31T23:59:59Z"}),
    ],
)
async def test_control_refuses_what_would_break_the_sandbox_later(
    sfcc: Sandbox, method: str, path: str, body: Any
) -> None:
    async with sfcc.session.request(method, f"{sfcc.url}/control{path}", json=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["message"]
    assert (await sfcc.control("GET", "/summary"))["orders"] == 0


async def test_of_many_orders_with_one_number_at_once_one_is_created(sfcc: Sandbox) -> None:
    sfcc.keep("tsob", (await sfcc.token("tsob")).json["access_token"])
    replies = await asyncio.gather(*(sfcc.shopper("POST", ORDERS, order(), siteId="MainSite") for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [201] + [400] * 19
