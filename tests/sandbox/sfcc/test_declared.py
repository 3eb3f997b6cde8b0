"""What the sandbox declares of its operations is what the published documents declare: parameters, bodies, scopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.sfcc.app import OPERATIONS
from sandbox.sfcc.gateway import Operation, Parameter
from sandbox.sfcc.shapes import Flag, Instant, ListOf, Number, Record, Shape, Text
from tests.sandbox.sfcc.kit import DOCUMENTS, published

CONTRACTED = [
    pytest.param(operation, base, id=operation.id)
    for operation in OPERATIONS
    for base in DOCUMENTS
    if operation.path.startswith(f"{base}/organizations") and operation.family == "scapi"
]
# Deliberate departures, each with its reason.
ALLOWED = {
    # A reader may rely on 256 characters: the schema of the stored order says so.
    "createOrders: $.productItems[].itemText longest 256, published None",
    "createOrders: $.shipments[].shippingMethod longest 256, published None",
    *(
        f"createOrders: {place}.reasonCode {what}, published {known}"
        for place in (
            "$.orderPriceAdjustments[]",
            "$.productItems[].priceAdjustments[]",
            "$.productItems[].optionItems[].priceAdjustments[]",
        )
        for what, known in (("longest 256", "None"), ("shortest 1", "0"))
    ),
    # The document's text has it: at most two, in a list separated by commas; its schema knows a string only.
    "getOrders: query status most 2, published None",
    "getOrders: query status choices ['cancelled', 'completed', 'new'], published []",
    # Text only, not in the schema.
    "searchProducts: $ members expand more than published",
    # Without a limit below, a page of nothing.
    *(f"{one}: query limit smallest 1, published None" for one in ("getCatalogs", "getCategoriesFromCatalog")),
}


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without references, its `allOf` parts joined."""
    while "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    joined: dict[str, Any] = {name: value for name, value in schema.items() if name != "allOf"}
    for part in schema.get("allOf", ()):
        inner = resolved(document, part)
        joined = inner | joined | {"properties": inner.get("properties", {}) | joined.get("properties", {})}
        joined["required"] = list(dict.fromkeys([*inner.get("required", []), *schema.get("required", [])]))
    return joined


def departures(document: dict[str, Any], shape: Shape, schema: dict[str, Any], place: str) -> Iterator[str]:
    """Where a shape asks for something else than a schema."""
    schema = resolved(document, schema)

    def compare(what: str, mine: Any, theirs: Any) -> Iterator[str]:
        if mine != theirs:
            yield f"{place} {what} {mine}, published {theirs}"

    match shape:
        case Record():
            known = schema.get("properties", {})
            for name in shape.members.keys() - known.keys():
                yield f"{place} members {name} more than published"
            for name in known.keys() - shape.members.keys():
                yield f"{place} members {name} fewer than published"
            if not shape.one_of:
                yield from compare("required", sorted(shape.required), sorted(schema.get("required", [])))
            for name in shape.members.keys() & known.keys():
                # A query holds queries: one level is enough to compare.
                if "Query" not in name and "Filter" not in name and name != "query":
                    yield from departures(document, shape.members[name], known[name], f"{place}.{name}")
        case ListOf():
            yield from compare("fewest", shape.fewest, schema.get("minItems", 0))
            yield from compare("most", shape.most, schema.get("maxItems"))
            yield from departures(document, shape.item, schema["items"], f"{place}[]")
        case Text():
            yield from compare("choices", sorted(shape.choices), sorted(schema.get("enum", [])))
            yield from compare("longest", shape.longest, schema.get("maxLength"))
            yield from compare("shortest", shape.shortest, schema.get("minLength", 0))
        case Number():
            yield from compare("whole", shape.whole, schema["type"] == "integer")
            # A double may be larger than any sum of money, a quantity than any stock: their bounds are ours.
            if schema["type"] == "integer":
                yield from compare("smallest", shape.smallest, schema.get("minimum"))
                yield from compare("largest", shape.largest, schema.get("maximum"))
        case Flag():
            yield from compare("type", "boolean", schema["type"])
        case Instant():
            yield from compare("format", "date-time", schema.get("format"))


def parameter_departures(document: dict[str, Any], mine: Parameter, theirs: dict[str, Any]) -> Iterator[str]:
    """Where a query parameter asks for something else than the document's."""
    schema = resolved(document, theirs["schema"])
    place = f"query {theirs['name']}"
    if mine.required != theirs.get("required", False):
        yield f"{place} required {mine.required}, published {theirs.get('required', False)}"
    if mine.most != schema.get("maxItems"):
        yield f"{place} most {mine.most}, published {schema.get('maxItems')}"
    if mine.most is not None and "items" in schema:
        schema = schema["items"]
    yield from departures(document, mine.shape, schema, place)


@pytest.mark.parametrize(("operation", "base"), CONTRACTED)
def test_an_operation_is_declared_as_published(operation: Operation, base: str) -> None:
    contract = published(DOCUMENTS[base])
    described = contract.operation((operation.method, operation.path.removeprefix(base)))
    assert operation.id == described["operationId"]
    parameters = [resolved(contract.document, one) for one in described.get("parameters", [])]
    query = {one["name"]: one for one in parameters if one["in"] == "query"}
    assert query.keys() == operation.query.keys()
    found = [
        one for name in query for one in parameter_departures(contract.document, operation.query[name], query[name])
    ]
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    assert (body is None) == (operation.body is None)
    if operation.body is not None and body is not None:
        found += departures(contract.document, operation.body, body, "$")
    allowed = {one for one in ALLOWED if one.startswith(f"{operation.id}:")}
    assert {f"{operation.id}: {one}" for one in found} == allowed
    scopes = {scheme: set(names) for one in described["security"] for scheme, names in one.items()}
    assert set(operation.admin_scopes) == scopes.get("AmOAuth2", set())
    assert set(operation.shopper_scopes) == scopes.get("ShopperTokenTsob", set())
