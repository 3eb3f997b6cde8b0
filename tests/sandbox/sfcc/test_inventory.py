"""Omnichannel Inventory in the sandbox: availability, deltas, exports, reservations."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any

import pytest

from tests.sandbox.sfcc.kit import AVAILABILITY, IMPEX, ORDERS, RESERVATION, Sandbox, config, serving

DOCUMENT = f"{RESERVATION}/reservation-documents/0b0e8f3a-2c7d-4a44-9a1b-6c1d2e3f4a5b"


async def group(sfcc: Sandbox, sku: str = "P000001") -> dict[str, Any]:
    """What the group `web` has of a SKU."""
    asked = {"skus": [sku], "groups": ["web"]}
    reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-availability", asked)
    assert reply.status == 200, reply
    found: dict[str, Any] = reply.json["groups"][0]["records"][0]
    return found


def wants(quantity: Any, sku: str = "P000001", **members: Any) -> dict[str, Any]:
    """A reservation on the group `web`."""
    return {"groups": [{"id": "web", "reservations": [{"sku": sku, "quantity": quantity}]}]} | members


async def test_an_unknown_sku_is_zero_and_does_not_exist_an_unknown_place_is_an_error(sfcc: Sandbox) -> None:
    unknown = await group(sfcc, "UNKNOWN")
    assert (unknown["exists"], unknown["ato"]) == (False, 0)
    for place, code in (("locations", "LocationDoesNotExist"), ("groups", "GroupDoesNotExist")):
        asked = {"skus": ["P000001"], place: ["nowhere"]}
        reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-availability", asked)
        assert (reply.status, reply.json["errorCode"]) == (400, code)
        assert reply.json["type"] == "about:blank"


async def test_quantities_are_decimals_and_the_formulas_hold(sfcc: Sandbox) -> None:
    record = {
        "id": "r1",
        "location": "warehouse_north",
        "sku": "P000001",
        "onHand": 384,
        "safetyStockCount": 13,
        "futures": [{"expectedDate": "2026-02-01T00:00:00Z", "quantity": 103}],
    }
    assert (await sfcc.admin("POST", f"{AVAILABILITY}/actions/batch-update", {"records": [record]})).status == 204
    asked = {"skus": ["P000001"], "locations": ["warehouse_north"]}
    reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-availability", asked)
    shown = reply.json["locations"][0]["records"][0]
    assert (shown["atf"], shown["ato"]) == (371, 474)
    assert b'"onHand":384.0' in reply.body
    assert b'"reserved":0,' in reply.body


async def test_a_batch_reports_each_record_and_repeats_have_no_effect(sfcc: Sandbox) -> None:
    good = {"id": "r1", "location": "warehouse_north", "sku": "P000001", "onHand": 9}
    bad = {"id": "r2", "location": "nowhere", "sku": "P000001", "onHand": 9}
    reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/batch-update", {"records": [good, bad]})
    assert reply.status == 200
    assert reply.json["errors"][0]["errorCode"] == "LocationDoesNotExist"
    assert reply.json["errors"][0]["details"] == {"id": "r2", "locationId": "nowhere", "sku": "P000001"}
    again = await sfcc.admin("POST", f"{AVAILABILITY}/actions/batch-update", {"records": [good | {"onHand": 1}]})
    assert again.status == 204
    assert (await group(sfcc))["onHand"] == 9
    many = {"records": [good | {"id": f"m{number}"} for number in range(101)]}
    assert (await sfcc.admin("POST", f"{AVAILABILITY}/actions/batch-update", many)).status == 400


async def test_at_most_100_cells_are_asked_at_once(sfcc: Sandbox) -> None:
    asked = {"skus": [f"S{number:03d}" for number in range(51)], "locations": ["warehouse_north", "warehouse_south"]}
    reply = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-availability", asked)
    assert (reply.status, reply.json["errorCode"]) == (400, "InvalidRequest")


async def test_deltas_repeat_a_sku_oldest_first_and_fold_to_the_present() -> None:
    async with serving(config(delta_page_records=3)) as sfcc:
        token = (
            await sfcc.admin("POST", f"{AVAILABILITY}/delta-token", {"placeType": "GROUP", "places": ["web"]})
        ).json["deltaToken"]
        for on_hand in (7, 6, 5, 4, 3):
            await sfcc.control("PUT", "/stock", {"product_id": "P000001", "on_hand": on_hand})
        folded: dict[tuple[str, str], Any] = {}
        counts: list[int] = []
        again = True
        while again:
            page = (await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token})).json
            token, again = page["nextDeltaToken"], page["shouldQueryAgain"]
            counts.append(len(page["records"]))
            folded |= {(one["id"], one["sku"]): one["ato"] for one in page["records"]}
        assert counts == [3, 2]
        assert folded == {("web", "P000001"): 3}
        quiet = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token})
        assert quiet.json["records"] == []
        assert token.startswith("@")


async def test_a_record_that_is_taken_away_leaves_a_delete_behind(sfcc: Sandbox) -> None:
    asked = {"placeType": "LOCATION", "places": ["warehouse_north"]}
    token = (await sfcc.admin("POST", f"{AVAILABILITY}/delta-token", asked)).json["deltaToken"]
    assert await sfcc.control("DELETE", "/stock", product_id="P000001") == {"removed": 1}
    page = (await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token})).json
    assert page["records"] == [{"sku": "P000001", "id": "warehouse_north", "deltaType": "Delete"}]
    assert (await group(sfcc))["exists"] is False


async def test_deltas_are_numbered_where_the_instance_numbers_them() -> None:
    async with serving(config(delta_sequence_numbers=True)) as sfcc:
        asked = {"placeType": "LOCATION", "places": ["warehouse_north"]}
        token = (await sfcc.admin("POST", f"{AVAILABILITY}/delta-token", asked)).json["deltaToken"]
        for on_hand in (7, 6):
            await sfcc.control("PUT", "/stock", {"product_id": "P000001", "on_hand": on_hand})
        page = (await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token})).json
        first, second = page["records"]
        assert second["sequenceNumber"] == first["sequenceNumber"] + 1
        assert (first["onHand"], second["deltaType"]) == (7, "Change")


@pytest.mark.parametrize("status", [400, 410])
async def test_a_delta_token_expires_after_23_and_a_half_hours(status: int) -> None:
    async with serving(config(expired_delta_status=status)) as sfcc:
        asked = {"placeType": "LOCATION", "places": ["warehouse_north"]}
        token = (await sfcc.admin("POST", f"{AVAILABILITY}/delta-token", asked)).json["deltaToken"]
        sfcc.instance.clock.advance(23.5 * 3600 - 1)
        sfcc.forget_tokens()
        assert (await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token})).status == 200
        sfcc.instance.clock.advance(1)
        late = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": token})
        assert (late.status, late.json["errorCode"]) == (status, "ExpiredDeltaLink")
        garbled = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": "@nonsense"})
        assert (garbled.status, garbled.json["errorCode"]) == (400, "InvalidRequestParameter")


async def test_a_full_export_ends_in_a_token_from_which_nothing_is_lost(sfcc: Sandbox) -> None:
    started = await sfcc.admin("POST", f"{IMPEX}/exports", {"objects": {"groups": ["*"]}})
    status = started.json["exportStatusLink"].removeprefix(sfcc.url)
    assert (await sfcc.admin("GET", status)).json["status"] == "PENDING"
    sfcc.instance.clock.advance(1)
    assert (await sfcc.admin("GET", status)).json["status"] == "RUNNING"
    sfcc.instance.clock.advance(1)
    done = (await sfcc.admin("GET", status)).json
    assert (done["status"], done["export"]["recordsExportedCount"]) == ("COMPLETED", 12)
    await sfcc.control("PUT", "/stock", {"product_id": "P000002", "on_hand": 1})
    content = await sfcc.admin("GET", done["download"]["downloadLink"].removeprefix(sfcc.url))
    assert hashlib.sha256(content.body).hexdigest() == done["validation"]["fileHash"]
    lines = content.body.decode().split("\n")
    assert "" in lines[1:-1]
    rows = [json.loads(line) for line in lines if line]
    assert rows[0] == {"groupId": "web"}
    assert len(rows) == 14
    deltas = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-deltas", {"deltaToken": rows[-1]["deltaToken"]})
    assert [one["sku"] for one in deltas.json["records"]] == ["P000002"]
    sfcc.instance.clock.advance(86_400)
    sfcc.forget_tokens()
    assert (await sfcc.admin("GET", status)).json["status"] == "EXPIRED"
    both = {"objects": {"groups": ["*"], "locations": ["*"]}}
    assert (await sfcc.admin("POST", f"{IMPEX}/exports", both)).status == 400


async def test_a_reservation_lowers_what_can_be_sold_and_a_shortage_is_a_200(sfcc: Sandbox) -> None:
    made = await sfcc.admin("PUT", DOCUMENT, wants(48, expirationSeconds=600))
    assert (made.status, made.json["success"]) == (200, True)
    assert (made.json["expirationTime"], made.headers["Location"]) == ("2026-01-05T08:10:00.000Z", DOCUMENT)
    assert (await group(sfcc))["ato"] == 2
    other = DOCUMENT.replace("0b0e", "1b0e")
    short = (await sfcc.admin("PUT", other, wants(5))).json
    assert short["success"] is False
    assert short["groups"][0]["details"] == [{"sku": "P000001", "quantity": 2}]
    assert short["groups"][0]["errors"] == [{"sku": "P000001", "errorCode": "InsufficientQuantity"}]
    nothing = (await sfcc.admin("PUT", other, wants(5, allowPartialReservations=False))).json
    assert nothing["groups"][0]["details"] == [{"sku": "P000001", "quantity": 0}]
    assert (await group(sfcc))["ato"] == 2


async def test_a_reservation_expires_unless_it_is_put_again(sfcc: Sandbox) -> None:
    await sfcc.admin("PUT", DOCUMENT, wants(10, expirationSeconds=60))
    sfcc.instance.clock.advance(50)
    await sfcc.admin("PUT", DOCUMENT, wants(10, expirationSeconds=60))
    sfcc.instance.clock.advance(50)
    assert (await group(sfcc))["ato"] == 40
    sfcc.instance.clock.advance(10)
    assert (await group(sfcc))["ato"] == 50
    closed = await sfcc.admin("PUT", DOCUMENT, wants(10))
    assert (closed.status, closed.json["errorCode"]) == (409, "ReservationInvalidState")


async def test_cancelling_a_reservation_gives_everything_back(sfcc: Sandbox) -> None:
    await sfcc.admin("PUT", DOCUMENT, wants(10))
    assert (await sfcc.admin("PATCH", DOCUMENT, wants(5))).json["success"] is True
    assert (await group(sfcc))["ato"] == 35
    await sfcc.admin("PATCH", DOCUMENT, {"status": "CANCELLED"})
    assert (await group(sfcc))["ato"] == 50


async def test_releases_and_fulfilments_end_reservations_by_their_reference(sfcc: Sandbox) -> None:
    await sfcc.admin("PUT", DOCUMENT, wants(10, externalRefId="M-1001-A"))
    record = {"id": "f1", "externalRefId": "M-1001-A", "group": "web", "sku": "P000001", "quantity": 4}
    assert (await sfcc.admin("POST", f"{RESERVATION}/releases", {"records": [record]})).status == 204
    assert (await sfcc.admin("POST", f"{RESERVATION}/releases", {"records": [record]})).status == 204
    assert (await group(sfcc))["reserved"] == 0
    assert (await group(sfcc))["groupReserved"] == 6
    moved = {
        "id": "t1",
        "externalRefId": "M-1001-A",
        "sku": "P000001",
        "quantity": 6,
        "from": {"group": "web"},
        "to": {"location": "warehouse_north"},
    }
    assert (await sfcc.admin("POST", f"{RESERVATION}/transfers", {"records": [moved]})).status == 204
    shipped = record | {"id": "f2", "location": "warehouse_north", "quantity": 6}
    del shipped["group"]
    assert (await sfcc.admin("POST", f"{RESERVATION}/fulfillments", {"records": [shipped]})).status == 204
    after = await group(sfcc)
    assert (after["onHand"], after["ato"]) == (44, 44)
    reply = await sfcc.admin("POST", f"{RESERVATION}/releases", {"records": [record | {"id": "f3"}]})
    assert reply.json["errors"][0]["errorCode"] == "InsufficientQuantity"


@pytest.mark.parametrize(
    "members", [{"externalRefId": "M_1001"}, {"expirationSeconds": 14_401}, {"groups": [{"reservations": []}]}]
)
async def test_a_reservation_outside_the_contract_is_refused(sfcc: Sandbox, members: dict[str, Any]) -> None:
    assert (await sfcc.admin("PUT", DOCUMENT, wants(1) | members)).status == 400


async def test_quantities_are_multiples_of_a_thousandth(sfcc: Sandbox) -> None:
    assert (await sfcc.admin("PUT", DOCUMENT, wants(Decimal("0.0005")))).status == 400
    assert (await sfcc.admin("PUT", DOCUMENT, wants(Decimal("0.125")))).status == 200
    assert (await group(sfcc))["ato"] == Decimal("49.875")


async def test_oci_counts_calls_and_says_so(sfcc: Sandbox) -> None:
    await sfcc.control("PUT", "/rates", {"oci": 1})
    asked = {"skus": ["P000001"], "groups": ["web"]}
    first = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-availability", asked)
    assert (first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Remaining"]) == ("1", "0")
    second = await sfcc.admin("POST", f"{AVAILABILITY}/actions/get-availability", asked)
    assert (second.status, second.headers["Retry-After"]) == (429, "60")
    assert second.headers["Content-Type"] == "application/problem+json"
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).status == 200


async def test_another_tenant_group_is_not_provisioned(sfcc: Sandbox) -> None:
    path = AVAILABILITY.replace("5f1d", "6f1d")
    reply = await sfcc.admin("POST", f"{path}/actions/get-deltas", {"deltaToken": "x"})
    assert (reply.status, reply.json["errorCode"]) == (403, "TenantNotProvisioned")
