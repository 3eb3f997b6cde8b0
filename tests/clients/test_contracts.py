"""What the clients send and read, against the vendors' own documents."""

from __future__ import annotations

import copy
import email.parser
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared.errors import BridgeError
from shared.http import open_session
from shared.mirakl.client import MiraklClient
from shared.mirakl.operations import OPERATIONS as MIRAKL
from shared.operations import OpenGate
from shared.sfcc.operations import OPERATIONS as SFCC
from tests.clients import mirakl_calls, sfcc_calls
from tests.clients.test_sfcc_client import granted, is_for_a_token
from tests.clients.wire import Arrival, Reply, serving
from tests.kit.contracts import Contract, ContractError, contract

SELLER = "mirakl-mmp-seller-openapi.json"
ORDERS = "sfcc-orders-oas-1.5.2.yaml"
PRODUCTS = "sfcc-products-oas-1.2.0.yaml"
LOGIN = "sfcc-auth-oas-1.50.0.yaml"

FILES = {"OF54", "OR15", "TL05"}
"""Mirakl's files: their addresses come from an answer, not from the document."""

NOT_ASKED_FOR = {("PM11", "text/csv"), ("OF54", "application/json")}
"""Forms of an answer that the client does not ask for."""

CONTRADICTORY = {
    *("A01 application/json-0", "A01 application/json-auto", "PC01 application/json-0", "RE01 application/json-0"),
    *("AF01 application/json-0", "PM11 application/json-0", "P31 application/json-0", "OF02 application/json-0"),
    *("OF21 application/json-0", "OF21 application/json-1", "OF21 application/json-auto"),
    *("OF54 application/json-0", "OF54 application/json-1", "OF54 application/json-auto"),
    *("OR11 application/json-0", "OR11 application/json-auto", "OR15 application/json-auto"),
    *("OR28 application/json-0", "OR30 application/json-0", "OR31 application/json-auto"),
    *("ST01 application/json-auto", "ST11 application/json-0", "ST11 application/json-auto"),
    *("IV01 application/json-0", "TL02 application/json-0", "TL02 application/json-auto"),
    *("TL05 application/json-0", "TL05 application/json-auto"),
}
"""Answer examples of Mirakl's document that its own schemas refuse; our decoders read them all."""


def always(reply: Reply) -> Callable[[Arrival], Reply]:
    """One answer to everything, and tokens to who asks for one."""
    return lambda arrival: granted("token") if is_for_a_token(arrival) else reply


def contracted() -> dict[str, str]:
    """The SFCC operations that a document at hand describes, with that document's name."""
    orders = {name: ORDERS for name in SFCC if "Order" in name}
    return {**orders, "getProduct": PRODUCTS, "searchProducts": PRODUCTS, "getTrustedSystemAccessToken": LOGIN}


# What is sent ---------------------------------------------------------------------------------------


def check(document: Contract, name: str, prefix: str, arrival: Arrival) -> None:
    """Compare one request with the document."""
    method, template = document.place(name)
    assert arrival.method == method
    assert len(arrival.path.removeprefix(prefix).split("/")) == len(template.split("/"))
    query = parse_qsl(urlsplit(arrival.target).query, keep_blank_values=True)
    kind = arrival.headers.get("content-type", "")
    if kind.startswith("multipart/"):
        document.validate_request(method, template, query)
        check_form(document, name, dict(parts(arrival)))
    elif kind.startswith("application/x-www-form-urlencoded"):
        document.validate_request(method, template, query)
        form = dict(parse_qsl(arrival.body.decode()))
        schema = document.operation(name)["requestBody"]["content"][kind]["schema"]
        assert not list(document.unknown_fields(schema, form))
    else:
        body: Any = json.loads(arrival.body) if arrival.body else None
        if method == "PUT":
            assert "content-length" in arrival.headers  # 0 where there is no body
        if name == "searchProducts":
            assert body.pop("expand") == ["prices"]  # stands in the text only
            document = without_its_ban(document)
        document.validate_request(method, template, query, arrival.headers, body)


def without_its_ban(document: Contract) -> Contract:
    """SFCC's product search forbids all members that its own schema does not repeat, `query` among them."""
    free = copy.deepcopy(document.document)
    del free["components"]["schemas"]["ProductSearchRequest"]["additionalProperties"]
    return Contract(free)


def parts(arrival: Arrival) -> Iterator[tuple[str, bytes]]:
    """The parts of a multipart body by their names."""
    head = f"Content-Type: {arrival.headers['content-type']}\r\n\r\n".encode()
    for part in email.parser.BytesParser().parsebytes(head + arrival.body).get_payload():
        assert not isinstance(part, str)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        yield str(part.get_param("name", header="content-disposition")), content


def check_form(document: Contract, name: str, form: dict[str, bytes]) -> None:
    """Compare a multipart body with the document."""
    schema = document.operation(name)["requestBody"]["content"]["multipart/form-data"]["schema"]
    while "$ref" in schema:
        schema = document.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert form.keys() <= schema["properties"].keys()
    assert set(schema.get("required", ())) <= form.keys()
    assert form["file"]


@pytest.mark.parametrize("name", sorted(MIRAKL.keys() - FILES))
async def test_what_is_sent_to_mirakl_is_what_its_document_takes(name: str) -> None:
    document = contract(SELLER)
    async with serving(always(Reply())) as wire, open_session() as session:
        client = MiraklClient(session, wire.url, lambda: "key", "worten/4711", OpenGate(), shop_id=4711)
        with suppress(BridgeError):
            await mirakl_calls.calls(wire.url)[name](client)
        assert wire.arrivals[0].headers["authorization"] == "key"
        assert "shop_id=4711" in wire.arrivals[0].target
        check(document, name, "", wire.arrivals[0])


@pytest.mark.parametrize("name", sorted(contracted()))
async def test_what_is_sent_to_sfcc_is_what_its_documents_take(name: str) -> None:
    document = contract(contracted()[name])
    prefix = urlsplit(document.document["servers"][0]["url"]).path

    async with serving(always(Reply())) as wire, open_session() as session:
        with suppress(BridgeError):
            await sfcc_calls.calls(wire.url)[name](sfcc_calls.client(session, wire.url))
        sent = [arrival for arrival in wire.arrivals if not is_for_a_token(arrival)] or wire.arrivals[-1:]
        assert sent[0].path.startswith(prefix)
        check(document, name, prefix, sent[0])


# What is read ---------------------------------------------------------------------------------------


def examples(document: Contract, name: str) -> Iterator[tuple[str, int, str, Any]]:
    """Every answer example of an operation: its name, status, media type and value."""
    for status, response in document.operation(name)["responses"].items():
        for media, content in response.get("content", {}).items():
            for key, example in content.get("examples", {}).items():
                if "$ref" in example:
                    example = document.document["components"]["examples"][example["$ref"].rpartition("/")[2]]
                yield f"{name} {key}", int(status), media, example["value"]


def contradicts_itself(document: Contract, name: str, status: int, value: Any) -> bool:
    """Whether the document's schema refuses its own example."""
    try:
        document.validate_response(name, status, value)
    except ContractError:
        return True
    return False


@pytest.mark.parametrize("name", sorted(MIRAKL))
async def test_every_example_of_mirakls_document_can_be_read(name: str) -> None:
    document = contract(SELLER)
    for key, status, media, value in examples(document, name):
        if value == "string" or (name, media) in NOT_ASKED_FOR:
            continue  # "string" stands for a file
        body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        reply = Reply(status, body, {"Content-Type": media})
        async with serving(always(reply)) as wire, open_session() as session:
            client = MiraklClient(session, wire.url, lambda: "key", "worten/4711", OpenGate())
            assert await mirakl_calls.calls(wire.url)[name](client) is not None or status == 204, key


async def test_mirakls_examples_that_contradict_their_own_schema_are_the_listed_ones() -> None:
    document = contract(SELLER)
    found = {
        key
        for name in MIRAKL
        for key, status, media, value in examples(document, name)
        if media == "application/json" and contradicts_itself(document, name, status, value)
    }
    assert found == CONTRADICTORY


@pytest.mark.parametrize("name", ["getOrder", "getOrders", "getProduct", "searchProducts"])
async def test_every_example_of_sfccs_documents_can_be_read(name: str) -> None:
    document = contract(contracted()[name])
    read = 0
    for _key, status, _, value in examples(document, name):
        reply = Reply(status, json.dumps(value, default=str).encode())
        async with serving(always(reply)) as wire, open_session() as session:
            call = sfcc_calls.calls(wire.url)[name](sfcc_calls.client(session, wire.url))
            if status < 300:
                assert await call
                read += 1
            else:
                with pytest.raises(BridgeError):
                    await call
    assert read
