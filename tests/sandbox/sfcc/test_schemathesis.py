"""schemathesis calls every served operation of the published documents with made-up requests, legal and illegal."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from sandbox.sfcc.app import OPERATIONS
from tests.kit.contracts import contract_file
from tests.sandbox.sfcc.kit import DOCUMENTS, ORGANIZATION, UNCONTRACTED, config, order, published, serving

SERVED = [
    (base, operation.id)
    for operation in OPERATIONS
    for base in DOCUMENTS
    if operation.path.startswith(f"{base}/organizations")
]
KNOWN = {
    "organizationId": ORGANIZATION,
    "orderNo": "X",
    "shipmentId": "me",
    "productId": "P000001",
    "masterProductId": "M000001",
    "id": "P000001",
    "catalogId": "master-catalog",
    "categoryId": "root",
}
EXAMPLES = limits(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, dict[str, str]]]:
    """A sandbox in a thread of its own, with one order, and a token of each kind."""
    started, stop = threading.Event(), asyncio.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        settings = config()
        settings.product_masters = 1
        async with serving(settings) as sfcc:
            await sfcc.create(order("X"))
            payment = (await sfcc.get("X"))["paymentInstruments"][0]["paymentInstrumentId"]
            tokens = {kind: (await sfcc.token(kind)).json["access_token"] for kind in ("am", "tsob")}
            found.update(url=sfcc.url, loop=asyncio.get_running_loop(), payment=payment, tokens=tokens)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    KNOWN["paymentInstrumentId"] = found["payment"]
    yield found["url"], found["tokens"]
    found["loop"].call_soon_threadsafe(stop.set)
    thread.join(30)


@cache
def loaded(name: str) -> Any:
    """A document as schemathesis reads it."""
    return schemathesis.openapi.from_dict(published(name).document)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
@pytest.mark.parametrize(("base", "operation_id"), SERVED)
def test_no_answer_is_outside_the_contract(
    served: tuple[str, dict[str, str]], base: str, operation_id: str, mode: GenerationMode
) -> None:
    contract_file(DOCUMENTS[base])
    url, tokens = served
    operation = next(
        found.ok()
        for found in loaded(DOCUMENTS[base]).get_all_operations()
        if found.ok().definition.raw.get("operationId") == operation_id
    )
    statuses = {int(one) for one in operation.definition.raw["responses"] if one.isdigit()}
    bearer = tokens["tsob" if operation_id == "createOrders" else "am"]

    @EXAMPLES
    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    def call(case: Any, known: bool) -> None:
        # Half of the calls meet something that is there.
        if known:
            case.path_parameters = {name: KNOWN.get(name, value) for name, value in case.path_parameters.items()}
            if "siteId" in (case.query or {}):
                case.query["siteId"] = "MainSite"
        else:
            case.path_parameters["organizationId"] = ORGANIZATION
        headers = {"Authorization": f"Bearer {bearer}"} if base != "/shopper/auth/v1" else {}
        response = case.call(base_url=url + base, headers=headers, timeout=10)
        case.validate_response(
            response, checks=[not_a_server_error, response_schema_conformance, content_type_conformance]
        )
        assert response.status_code in statuses | UNCONTRACTED | {405}

    call()
