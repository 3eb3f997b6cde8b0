"""The vendor's document drives the sandbox: whatever it generates, no 5xx and no answer outside the schema."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from sandbox.common.server import start
from sandbox.mirakl.app import SANDBOX, build
from sandbox.mirakl.config import KeyConfig
from sandbox.mirakl.control import pay_out
from sandbox.mirakl.operations import OPERATIONS
from sandbox.mirakl.storefront import OrderRequest, sell
from tests.kit.contracts import MIRAKL, contract_file
from tests.sandbox.mirakl.conftest import quiet_config
from tests.sandbox.mirakl.test_contract import DYNAMIC

KEY = "every-role"
EXAMPLES = 8
KNOWN: dict[str, list[Any]] = {
    "order_id": [*(f"ALPHA-{number:09d}-A" for number in range(1, 13)), "nothing"],
    "offer": [2001, 2002, 1],
    "accounting_document_id": [1001, 1],
}


def _nullable(node: Any) -> Any:
    """The answers' schemas with null beside every type: live platforms send it for what is not there."""
    if isinstance(node, dict):
        changed = {name: _nullable(value) for name, value in node.items()}
        if isinstance(changed.get("type"), str):
            changed["type"] = [changed["type"], "null"]
        return changed
    if isinstance(node, list):
        return [_nullable(one) for one in node]
    return node


def _reachable(operation: dict[str, Any]) -> dict[str, Any]:
    """The operation with ids that are there among its path parameters, and always for the key's own shop."""
    parameters = []
    for one in operation.get("parameters", ()):
        if one["name"] in KNOWN:
            one = {**one, "schema": {"enum": KNOWN[one["name"]]}}
        if one["name"] != "shop_id":
            parameters.append(one)
    return {**operation, "parameters": parameters}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    published = json.loads(contract_file(MIRAKL).read_text())
    schemas = published["components"]["schemas"]
    for name in schemas:
        if "_Response_" in name:
            schemas[name] = _nullable(schemas[name])
    return copy.deepcopy(published)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A served sandbox with orders in every state and a key that may do everything."""
    config = quiet_config(behaviour_enforce_limits=False, multi_shipment=True)
    roles = sorted({role for operation in OPERATIONS for role in operation.roles or ()})
    config.marketplaces[0].keys.append(KeyConfig(KEY, "all", [2001], roles))
    app = build(config, seed=1)
    loop = asyncio.new_event_loop()
    bound = loop.run_until_complete(start(app))
    sandbox = app[SANDBOX]
    market = sandbox.markets["alpha"]
    states: tuple[Literal["WAITING_ACCEPTANCE", "SHIPPING", "SHIPPED", "RECEIVED"], ...]
    states = ("WAITING_ACCEPTANCE", "SHIPPING", "SHIPPED", "RECEIVED")
    for state in states:
        sell(market, OrderRequest("alpha", 2001, 3, state=state))
    pay_out(market, market.shops[2001])
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"{bound.url}/alpha"
    asyncio.run_coroutine_threadsafe(bound.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize("code", [one.code for one in OPERATIONS if one.code not in DYNAMIC])
def test_what_the_document_generates_gets_no_5xx_and_no_answer_outside_the_schema(
    document: dict[str, Any], base_url: str, code: str
) -> None:
    operation = next(one for one in OPERATIONS if one.code == code)
    item = {operation.method.lower(): _reachable(document["paths"][operation.path][operation.method.lower()])}
    narrowed = {**document, "paths": {operation.path: item}}
    (result,) = schemathesis.openapi.from_dict(narrowed).get_all_operations()
    found: Any = result

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=found.ok().as_strategy())
    def generated(case: Any) -> None:
        case.call_and_validate(
            base_url=base_url,
            headers={"Authorization": KEY},
            checks=[not_a_server_error, response_schema_conformance, content_type_conformance],
        )

    generated()
