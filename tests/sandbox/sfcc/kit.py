"""A sandbox under test: served on loopback, called with the right tokens, every answer held against the contract."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import aiohttp

from sandbox.common.server import start, to_json
from sandbox.sfcc.app import INSTANCE, OPERATIONS, build
from sandbox.sfcc.config import ADMIN_SCOPES, Config, Switches
from sandbox.sfcc.instance import Instance
from tests.kit.contracts import CONTRACTS, Contract, contract

ORGANIZATION = "f_ecom_zzsb_001"
TENANT_GROUP = Config().tenant_group
ORDERS = f"/checkout/orders/v1/organizations/{ORGANIZATION}/orders"
AVAILABILITY = f"/inventory/availability/v1/organizations/{TENANT_GROUP}/availability-records"
IMPEX = f"/inventory/impex/v1/organizations/{TENANT_GROUP}/availability-records"
RESERVATION = f"/inventory/reservation/v1/organizations/{TENANT_GROUP}"
PRODUCTS = f"/product/products/v1/organizations/{ORGANIZATION}"
CATALOGS = f"/product/catalogs/v1/organizations/{ORGANIZATION}/catalogs"
PRICE_BOOKS = f"/product/price-books/v1/organizations/{ORGANIZATION}/price-books"
INVENTORY_LISTS = f"/product/inventory-lists/v1/organizations/{ORGANIZATION}/inventory-lists"
JOBS = f"/operation/jobs/v1/organizations/{ORGANIZATION}/jobs"
WEBDAV = "/on/demandware.servlet/webdav/Sites/Impex/src"
TSOB = f"/shopper/auth/v1/organizations/{ORGANIZATION}/oauth2/trusted-system/token"
CLOCK_START = "2026-01-05T08:00:00Z"
DOCUMENTS = {
    "/checkout/orders/v1": "sfcc-orders-oas-1.5.2.yaml",
    "/product/products/v1": "sfcc-products-oas-1.2.0.yaml",
    "/product/catalogs/v1": "sfcc-catalogs-oas-1.0.46.yaml",
    "/shopper/auth/v1": "sfcc-auth-oas-1.50.0.yaml",
}
# Answered by the gateway in front of every operation; no document lists them per operation.
UNCONTRACTED = frozenset({400, 401, 403, 404, 413, 415, 429, 503})


@dataclass(frozen=True)
class Reply:
    """What came back; `json` keeps fractions as Decimal."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal) if self.body else None


def config(**switches: Any) -> Config:
    """The default instance on a frozen clock, with some switches set."""
    return Config(
        switches=Switches(slas_refuses_same_login_within_second=False, **switches),
        clock_start=CLOCK_START,
        clock_speed=0,
        product_count=12,
        product_masters=0,
    )


def order(number: str | None = "M-1001-A", **members: Any) -> dict[str, Any]:
    """A createOrders request that adds up: two pieces at 30.98 and shipping of 4.95."""
    address = {"firstName": "Jane", "lastName": "Doe", "address1": "43 Main Rd.", "city": "Lyon", "postalCode": "69001"}
    request: dict[str, Any] = {
        "billingAddress": address,
        "channelType": "marketplace",
        "currency": "EUR",
        "orderTotal": Decimal("66.91"),
        "taxTotal": Decimal("12.39"),
        "paymentInstruments": [
            {
                "paymentMethodId": "MARKETPLACE",
                "paymentTransaction": {"amount": Decimal("66.91"), "transactionId": "t-1"},
            }
        ],
        "productItems": [
            {
                "basePrice": Decimal("30.98"),
                "grossPrice": Decimal("61.96"),
                "netPrice": Decimal("49.57"),
                "productId": "P000001",
                "productName": "Lamp",
                "quantity": 2,
                "shipmentId": "first",
                "tax": Decimal("12.39"),
            }
        ],
        "shipments": [
            {
                "shipmentId": "first",
                "shippingAddress": address,
                "shippingMethod": "EXPRESS",
                "shippingTotal": Decimal("4.95"),
                "taxTotal": 0,
            }
        ],
    }
    if number is not None:
        request["orderNo"] = number
    return request | members


class Sandbox:
    """The sandbox as its callers see it. `admin` and `shopper` carry a token of their kind."""

    def __init__(self, url: str, session: aiohttp.ClientSession, instance: Instance) -> None:
        self.url = url
        self.session = session
        self.instance = instance
        self._tokens: dict[str, str] = {}

    async def send(self, method: str, path: str, **options: Any) -> Reply:
        """One request as it is."""
        async with self.session.request(method, self.url + path, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    def keep(self, kind: str, token: str) -> None:
        """Uses this token from now on."""
        self._tokens[kind] = token

    def forget_tokens(self) -> None:
        """Asks for new tokens at the next call."""
        self._tokens.clear()

    async def admin(self, method: str, path: str, body: Any = None, **query: str) -> Reply:
        return await self._called("am", method, path, body, query)

    async def shopper(self, method: str, path: str, body: Any = None, **query: str) -> Reply:
        return await self._called("tsob", method, path, body, query)

    async def control(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """A call of the control API that must succeed."""
        reply = await self.send(method, f"/control{path}", data=None if body is None else to_json(body), params=query)
        assert reply.status < 300, reply
        return reply.json

    async def create(self, request: dict[str, Any], site: str = "MainSite") -> Reply:
        """createOrders."""
        return await self.shopper("POST", ORDERS, request, siteId=site)

    async def get(self, number: str, site: str = "MainSite") -> Any:
        """An order that must be there."""
        reply = await self.admin("GET", f"{ORDERS}/{number}", siteId=site)
        assert reply.status == 200, reply
        return reply.json

    async def token(self, kind: str, **form: str) -> Reply:
        """Asks an issuer for a token."""
        if kind == "am":
            scopes = " ".join(("SALESFORCE_COMMERCE_API:zzsb_001", *ADMIN_SCOPES))
            fields = {"grant_type": "client_credentials", "scope": scopes} | form
            basic = aiohttp.encode_basic_auth("am-client", "am-secret")
            return await self.send("POST", "/dwsso/oauth2/access_token", data=fields, headers={"Authorization": basic})
        fields = {
            "grant_type": "client_credentials",
            "hint": "ts_ext_on_behalf_of",
            "login_id": "guest",
            "idp_origin": "ecom",
            "channel_id": "MainSite",
            "client_id": "slas-client",
        } | form
        basic = aiohttp.encode_basic_auth("slas-client", "slas-secret")
        reply = await self.send("POST", TSOB, data=fields, headers={"Authorization": basic})
        check("POST", TSOB, reply)
        return reply

    async def _called(self, kind: str, method: str, path: str, body: Any, query: dict[str, str]) -> Reply:
        if kind not in self._tokens:
            self._tokens[kind] = (await self.token(kind)).json["access_token"]
        reply = await self.send(
            method,
            path,
            data=None if body is None else to_json(body),
            params=query,
            headers={"Authorization": f"Bearer {self._tokens[kind]}", "Content-Type": "application/json"},
        )
        check(method, path, reply)
        return reply


@cache
def published(name: str) -> Contract:
    """A published document without what makes it contradict itself.

    Search requests and results of the products document are declared closed and empty beside an `allOf` that brings
    their members: read literally, no document at all would fit.
    """
    document = copy.deepcopy(contract(name).document)
    for schema in document["components"]["schemas"].values():
        if schema.get("additionalProperties") is False and "allOf" in schema:
            del schema["additionalProperties"]
    return Contract(document)


def check(method: str, path: str, reply: Reply) -> None:
    """Holds an answer against the published contract of its operation, where there is one at hand."""
    base = next((base for base in DOCUMENTS if path.startswith(base)), None)
    if base is None or not (CONTRACTS / DOCUMENTS[base]).exists():
        return
    template = next(
        one.path.removeprefix(base)
        for one in OPERATIONS
        if one.method == method
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one.path), path)
        and one.path.startswith(base)
    )
    document = published(DOCUMENTS[base])
    media = reply.headers.get("Content-Type", "").partition(";")[0]
    declared = document.operation((method, template))["responses"]
    if str(reply.status) not in declared and reply.status in UNCONTRACTED:
        return
    document.validate_response((method, template), reply.status, _described(reply.json))
    if reply.body:
        assert media in declared[str(reply.status)]["content"], (method, path, reply.status, media)


def _described(payload: Any) -> Any:
    """An answer without its custom attributes, of which documents of products say nothing."""
    if isinstance(payload, list):
        return [_described(one) for one in payload]
    if isinstance(payload, dict):
        return {name: _described(value) for name, value in payload.items() if not name.startswith("c_")}
    return payload


@asynccontextmanager
async def serving(settings: Config | None = None, seed: int = 7) -> AsyncIterator[Sandbox]:
    """A sandbox, served until the block ends."""
    app = build(settings or config(), seed)
    bound = await start(app)
    try:
        async with aiohttp.ClientSession() as session:
            yield Sandbox(bound.url, session, app[INSTANCE])
    finally:
        await bound.stop()
