"""The sandbox's table of operations against the published document, and the document's own tool against the sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.mirakl.app import HANDLERS
from sandbox.mirakl.operations import LEFT_OUT, OPERATIONS, PARAMETERS, Operation
from sandbox.mirakl.shapes import Leaf, Many
from tests.kit.contracts import METHODS, MIRAKL, MIRAKL_UNDECLARED, contract

# Files behind urls that another call gives: the document has placeholders for their paths.
DYNAMIC = ("OF54", "OR15", "TL05")
# Accepted on the wire although the document does not list it, with the reason.
EXTRA_PARAMETERS = {
    "OF54": {"file"},  # the document's own example urls carry it
    "OR15": {"file"},
    "TL05": set(),
}
IDS = [operation.code for operation in OPERATIONS]


def test_every_operation_has_its_handler() -> None:
    assert set(IDS) == set(HANDLERS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_an_operation_stands_where_the_contract_has_it(operation: Operation) -> None:
    document = contract(MIRAKL)
    method, path = document.place(operation.code)
    assert method == operation.method
    assert path == operation.path or operation.code in DYNAMIC
    assert str(operation.success) in document.operation(operation.code)["responses"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_an_operation_knows_the_contracts_parameters_and_no_others(operation: Operation) -> None:
    published = {
        one["name"]: one
        for one in contract(MIRAKL).operation(operation.code).get("parameters", ())
        if one["in"] == "query"
    }
    known = set(PARAMETERS[operation.code]) - EXTRA_PARAMETERS.get(operation.code, set())
    assert set(published) <= known
    assert known - set(published) <= MIRAKL_UNDECLARED
    for param in operation.params:
        if param.name in published:
            assert param.required == published[param.name].get("required", False), param.name


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_an_operation_asks_for_the_contracts_roles(operation: Operation) -> None:
    security = contract(MIRAKL).operation(operation.code).get("security", [])
    published = {role for entry in security for roles in entry.values() for role in roles}
    assert set(operation.roles or ()) == published
    assert (operation.roles is None) == (security in ([], [{}]))


def _published_leaves(schema: dict[str, Any], place: str = "") -> set[str]:
    document = contract(MIRAKL)
    schema = document.resolved(schema)
    if schema.get("type") == "array":
        return _published_leaves(schema["items"], place + "[]")
    found: set[str] = set()
    if "properties" not in schema:
        return {place}
    for name, inner in schema["properties"].items():
        found |= _published_leaves(inner, f"{place}.{name}" if place else name)
    return found


def _known_places(shape: Any, place: str = "") -> set[str]:
    """Every place of a body description: dotted, arrays as []."""
    if isinstance(shape, Leaf):
        return {place}
    if isinstance(shape, Many | list):
        return _known_places(shape.item if isinstance(shape, Many) else shape[0], place + "[]")
    found: set[str] = set()
    for key, inner in shape.items():
        name = key.rstrip("*")
        found |= _known_places(inner, f"{place}.{name}" if place else name)
    return found


# Written looser than published, with the reason.
OPEN_PLACES = (
    "rename_fields",  # a string in the schema, an object in its example
    "conversion_options",
    "additional_fields",  # variants by type, checked by the handlers
    "shipment_additional_information",
)


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.body], ids=[o.code for o in OPERATIONS if o.body]
)
def test_a_body_has_the_contracts_fields(operation: Operation) -> None:
    published = contract(MIRAKL).operation(operation.code)["requestBody"]["content"]["application/json"]["schema"]
    wanted = {place for place in _published_leaves(published) if not any(one in place for one in OPEN_PLACES)}
    known = {place for place in _known_places(operation.body) if not any(one in place for one in OPEN_PLACES)}
    assert wanted - known == set(), "fields of the contract that the sandbox does not know"


def test_what_is_left_out_of_the_contract_is_listed_with_its_reason() -> None:
    left_out = [code for _, codes in LEFT_OUT for code in codes]
    published = {
        operation["operationId"]
        for item in contract(MIRAKL).document["paths"].values()
        for method, operation in item.items()
        if method in METHODS
    }
    assert len(left_out) == len(set(left_out))
    assert set(left_out) == published - set(IDS)
