"""Requests and answers against a vendor's published OpenAPI document.

    mirakl = contract("mirakl-mmp-seller-openapi.json")      # skips the test where the contracts are absent
    mirakl.validate_response("OR11", 200, payload)           # or ("GET", "/api/orders")
    mirakl.validate_request("GET", "/api/orders", query=[("max", "100")])

Both raise `ContractError`, an AssertionError that names the operation and every place that does not fit. For the
seller API of Mirakl the module's own `validate_response` and `validate_request` are the shortest way.

Readings of the document that its text demands: in answers `null` stands for an absent value anywhere (live
platforms send it for fields their schema requires); a comma list is checked value by value; paging, sorting and
localisation parameters are declared nowhere and known everywhere; `discriminator` picks the variant. A field of an
answer that the document does not know is an error, because our sandbox has no business inventing one; pass
`closed=False` where it may.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import jsonschema.validators
import pytest
import yaml

CONTRACTS = Path(__file__).resolve().parents[2].parent / "shared" / "contracts"
MIRAKL = "mirakl-mmp-seller-openapi.json"
METHODS = ("get", "put", "post", "delete", "patch")
MIRAKL_UNDECLARED = frozenset(
    {"shop_id", "max", "offset", "sort", "order", "limit", "page_token", "locale", "paginate"}
)

Operation = str | tuple[str, str]


class ContractError(AssertionError):
    """What was sent or answered is not what the contract says."""


def contract_file(name: str) -> Path:
    """The path of a published contract. Skips the running test where it is not at hand."""
    path = CONTRACTS / name
    if not path.exists():
        pytest.skip(f"the vendor's contract {name} is not at hand (looked in {CONTRACTS})")
    return path


@cache
def _loaded(path: Path) -> Contract:
    text = path.read_text()
    undeclared = MIRAKL_UNDECLARED if path.name == MIRAKL else frozenset()
    return Contract(json_module.loads(text) if path.suffix == ".json" else yaml.safe_load(text), undeclared)


def contract(name: str) -> Contract:
    """A contract by its file name, read once per run. Skips the running test where it is not at hand."""
    return _loaded(contract_file(name))


def validate_response(operation: Operation, status: int, payload: Any, *, closed: bool = True) -> None:
    """Checks an answer of the Mirakl seller API; `operation` is its code (OR11) or (method, path template)."""
    contract(MIRAKL).validate_response(operation, status, payload, closed=closed)


def validate_request(
    method: str,
    path_template: str,
    query: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    json: Any = None,
) -> None:
    """Checks a request to the Mirakl seller API. `json` is the decoded body, None when there is none."""
    contract(MIRAKL).validate_request(method, path_template, query, headers, json)


class Contract:
    """One OpenAPI document, ready to check against."""

    def __init__(self, document: dict[str, Any], undeclared: frozenset[str] = frozenset()) -> None:
        self.document = document
        self.undeclared = undeclared
        self._places = {
            (method.upper(), path): operation
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in METHODS
        }
        self._codes = {operation.get("operationId"): place for place, operation in self._places.items()}
        self._answers = _checker(document, nulls=True)
        self._requests = _checker(document, nulls=False)

    def place(self, operation: Operation) -> tuple[str, str]:
        """Method and path template of an operation. Raises ContractError for one the document does not have."""
        place = self._codes.get(operation) if isinstance(operation, str) else (operation[0].upper(), operation[1])
        if place not in self._places:
            raise ContractError(f"the contract has no operation {operation}")
        return place

    def operation(self, operation: Operation) -> dict[str, Any]:
        """The document's own description of an operation."""
        found: dict[str, Any] = self._places[self.place(operation)]
        return found

    def validate_response(self, operation: Operation, status: int, payload: Any, *, closed: bool = True) -> None:
        """Raises ContractError unless `payload` (decoded JSON, None = no body) may be answered with `status`."""
        responses = self.operation(operation)["responses"]
        response = responses.get(str(status), responses.get("default"))
        if response is None:
            raise ContractError(f"{operation}: status {status} is not in the contract, which has {list(responses)}")
        response = self.resolved(response)
        schema = _json_schema(response.get("content", {}))
        if schema is None:
            if payload is not None:
                raise ContractError(f"{operation}: a body was answered, the contract has none for {status}")
            return
        problems = list(_problems(self._answers, schema, payload))
        if closed:
            problems += [f"{place}: not in the contract" for place in self.unknown_fields(schema, payload)]
        _raise(f"{operation} {status}", problems)

    def validate_request(
        self,
        method: str,
        path_template: str,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> None:
        """Raises ContractError unless this request may be sent."""
        operation = self.operation((method, path_template))
        declared = [self.resolved(one) for one in operation.get("parameters", ())]
        problems = list(self._query_problems([one for one in declared if one["in"] == "query"], query))
        sent = {name.lower() for name in headers or {}}
        problems += [
            f"header {one['name']} is required"
            for one in declared
            if headers is not None and one["in"] == "header" and one.get("required") and one["name"].lower() not in sent
        ]
        body = self.resolved(operation.get("requestBody", {}))
        schema = _json_schema(body.get("content", {}))
        if json is None:
            if schema is not None and body.get("required"):
                problems.append("a JSON body is required")
        elif schema is None:
            problems.append("the contract has no JSON body here")
        else:
            problems += _problems(self._requests, schema, json)
            problems += [f"{place}: not in the contract" for place in self.unknown_fields(schema, json)]
        _raise(f"{method} {path_template}", problems)

    def _query_problems(self, declared: list[dict[str, Any]], query: Sequence[tuple[str, str]]) -> Iterator[str]:
        by_name = {one["name"]: one for one in declared}
        given = {name for name, _ in query}
        for one in declared:
            if one.get("required") and one["name"] not in given:
                yield f"parameter {one['name']} is required"
        for name, text in query:
            if name not in by_name:
                if name not in self.undeclared:
                    yield f"parameter {name} is not in the contract"
                continue
            schema = self.resolved(by_name[name].get("schema", {}))
            inner = self.resolved(schema.get("items", {})) if schema.get("type") == "array" else schema
            listed = schema.get("type") == "array" or "enum" in schema
            for piece in text.split(",") if listed else [text]:
                yield from (f"parameter {name}: {p}" for p in _problems(self._requests, inner, _typed(inner, piece)))

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        """A part of the document with its reference followed."""
        while "$ref" in node:
            found: Any = self.document
            for step in node["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            node = found
        return node

    def unknown_fields(self, schema: dict[str, Any], value: Any, place: str = "") -> Iterator[str]:
        """Every place of `value` that no schema names."""
        schema = self.resolved(schema)
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from self.unknown_fields(schema.get("items", {}), item, f"{place}[{index}]")
        elif isinstance(value, dict):
            known = self._properties(schema, value)
            if not known or schema.get("additionalProperties"):
                return
            for name, inner in value.items():
                if name in known:
                    yield from self.unknown_fields(known[name], inner, f"{place}.{name}")
                else:
                    yield f"{place}.{name}"

    def _properties(self, schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
            found |= self._properties(self.resolved(part), {})
        chosen = schema.get("discriminator", {})
        variant = chosen.get("mapping", {}).get(value.get(chosen.get("propertyName")))
        if variant is not None:
            found |= self.resolved({"$ref": variant}).get("properties", {})
        # The variant's own type of a field comes after its parent's.
        return {**schema.get("properties", {}), **found}


def _checker(document: dict[str, Any], *, nulls: bool) -> Any:
    """A validator that knows `discriminator` and, for answers, takes null for every value."""
    base = jsonschema.Draft202012Validator

    def variant(validator: Any, discriminator: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, dict):
            ref = discriminator.get("mapping", {}).get(instance.get(discriminator["propertyName"]))
            if ref is not None:
                own = document["components"]["schemas"][ref.rsplit("/", 1)[-1]]
                # The variant names its parent in allOf, which is where we come from.
                yield from validator.descend(instance, {k: v for k, v in own.items() if k != "allOf"})

    def unless_null(keyword: str) -> Any:
        plain = base.VALIDATORS[keyword]

        def check(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
            if instance is not None:
                yield from plain(validator, wanted, instance, schema) or ()

        return check

    keywords: dict[str, Any] = {"discriminator": variant}
    if nulls:
        keywords |= {name: unless_null(name) for name in ("type", "enum", "const", "oneOf", "anyOf")}
    extended: Any = jsonschema.validators.extend(base, keywords)  # type: ignore[no-untyped-call]
    return extended({"components": document["components"]}, format_checker=_formats())


def _formats() -> jsonschema.FormatChecker:
    """Instants need a zone; other formats are only words in these documents."""
    formats = jsonschema.FormatChecker(["date"])

    @formats.checks("date-time", raises=ValueError)
    def instant(value: object) -> bool:
        return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None

    return formats


def _problems(checker: Any, schema: dict[str, Any], value: Any) -> Iterator[str]:
    for error in checker.evolve(schema={**checker.schema, **schema}).iter_errors(value):
        yield f"{error.json_path}: {error.message[:300]}"


def _json_schema(content: Mapping[str, Any]) -> dict[str, Any] | None:
    for media, described in content.items():
        if "json" in media:
            schema: dict[str, Any] = described.get("schema", {})
            return schema
    return None


def _typed(schema: dict[str, Any], text: str) -> Any:
    """A parameter's text as the value its schema speaks of; the text itself where it is none."""
    try:
        match schema.get("type"):
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}.get(text, text)
    except ValueError:
        pass
    return text


def _raise(what: str, problems: list[str]) -> None:
    if problems:
        raise ContractError(f"{what} is not what the contract says:\n  " + "\n  ".join(problems[:20]))
