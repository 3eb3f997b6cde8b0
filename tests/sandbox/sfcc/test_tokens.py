"""Account Manager and SLAS: who gets a token, for what, for how long."""

from __future__ import annotations

import aiohttp
import pytest

from sandbox.sfcc.config import Config, Switches
from tests.sandbox.sfcc.kit import CLOCK_START, ORDERS, TSOB, Sandbox, serving


async def test_account_manager_grants_what_the_client_may_have(sfcc: Sandbox) -> None:
    granted = await sfcc.token("am", scope="SALESFORCE_COMMERCE_API:zzsb_001 sfcc.orders")
    assert granted.status == 200
    assert granted.json["scope"] == "SALESFORCE_COMMERCE_API:zzsb_001 sfcc.orders"
    assert (granted.json["token_type"], granted.json["expires_in"]) == ("Bearer", 1799)


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"scope": "SALESFORCE_COMMERCE_API:zzsb_001 sfcc.shopper-baskets"}, "invalid_scope"),
        ({"scope": "SALESFORCE_COMMERCE_API:abcd_prd sfcc.orders"}, "invalid_scope"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_account_manager_refuses_the_rest(sfcc: Sandbox, form: dict[str, str], error: str) -> None:
    refused = await sfcc.token("am", **form)
    assert (refused.status, refused.json["error"]) == (400, error)


async def test_a_wrong_secret_is_a_401_at_both_issuers(sfcc: Sandbox) -> None:
    await sfcc.control("POST", "/credentials/rotate", {"kind": "am", "client_id": "am-client", "secret": "new"})
    await sfcc.control("POST", "/credentials/rotate", {"kind": "slas", "client_id": "slas-client", "secret": "new"})
    for kind in ("am", "tsob"):
        refused = await sfcc.token(kind)
        assert (refused.status, refused.json["error"]) == (401, "invalid_client")


async def test_a_token_without_the_scope_is_a_403_and_an_expired_one_a_401(sfcc: Sandbox) -> None:
    token = (await sfcc.token("am", scope="SALESFORCE_COMMERCE_API:zzsb_001 sfcc.products")).json["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    path = f"{ORDERS}?siteId=MainSite"
    assert (await sfcc.send("GET", path, headers=headers)).status == 403
    sfcc.instance.clock.advance(1799)
    assert (await sfcc.send("GET", path, headers=headers)).status == 401


async def test_a_token_for_another_tenant_is_a_403(sfcc: Sandbox) -> None:
    token = (await sfcc.token("am", scope="sfcc.orders")).json["access_token"]
    reply = await sfcc.send("GET", f"{ORDERS}?siteId=MainSite", headers={"Authorization": f"Bearer {token}"})
    assert reply.status == 403


async def test_a_revoked_token_is_a_401(sfcc: Sandbox) -> None:
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).status == 200
    assert await sfcc.control("POST", "/tokens/revoke", {"kind": "am"}) == {"ended": 1}
    assert (await sfcc.admin("GET", ORDERS, siteId="MainSite")).status == 401


async def test_slas_refuses_the_same_login_within_a_second() -> None:
    async with serving(Config(clock_start=CLOCK_START, clock_speed=0)) as sfcc:
        assert (await sfcc.token("tsob")).status == 200
        assert (await sfcc.token("tsob", login_id="jane@shopper.example")).status == 200
        refused = await sfcc.token("tsob")
        assert (refused.status, refused.json["error"]) == (409, "conflict")
        sfcc.instance.clock.advance(1)
        assert (await sfcc.token("tsob")).status == 200


@pytest.mark.parametrize(
    "form",
    [
        {"hint": "other"},
        {"channel_id": "Nowhere"},
        {"idp_origin": "myspace"},
        {"client_id": "am-client"},
        {"login_id": ""},
    ],
)
async def test_slas_refuses_a_malformed_request(sfcc: Sandbox, form: dict[str, str]) -> None:
    assert (await sfcc.token("tsob", **form)).status == 400


async def test_slas_counts_calls_per_minute() -> None:
    settings = Config(
        clock_start=CLOCK_START,
        clock_speed=0,
        switches=Switches(slas_requests_per_minute=2, slas_refuses_same_login_within_second=False),
    )
    async with serving(settings) as sfcc:
        first = await sfcc.token("tsob")
        assert first.headers["X-RateLimit-1M-Remaining"] == "1"
        await sfcc.token("tsob")
        refused = await sfcc.token("tsob")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "60")
        sfcc.instance.clock.advance(60)
        assert (await sfcc.token("tsob")).status == 200


async def test_secrets_and_tokens_are_not_recorded(sfcc: Sandbox) -> None:
    await sfcc.token("am")
    basic = aiohttp.encode_basic_auth("slas-client", "slas-secret")
    await sfcc.send("POST", TSOB, data={"client_secret": "slas-secret"}, headers={"Authorization": basic})
    await sfcc.admin("GET", ORDERS, siteId="MainSite")
    kept = await sfcc.control("GET", "/received")
    assert len(kept["calls"]) == 4
    assert "secret" not in str(kept)
    assert "Bearer" not in str(kept)
    assert kept["calls"][-1]["caller"] == "am-client"
    assert "slas-secret" not in str(await sfcc.control("GET", "/config"))
