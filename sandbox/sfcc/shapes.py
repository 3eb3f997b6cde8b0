"""Shapes: what a request may look like, declared as data and checked in one pass.

A shape is a plain value (`Text`, `Number`, `Flag`, `Instant`, `ListOf`, `Record`); `violations_of(shape, value)`
returns every departure from it as a `Violation`, never only the first, so that a test reads the whole list of what
its client got wrong. Nothing here knows an operation: the table of operations names the shapes, and the vendor's
published contract is compared with the table by the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sandbox.common.clock import parse_instant

__all__ = [
    "Anything",
    "Flag",
    "Instant",
    "ListOf",
    "Number",
    "Record",
    "Shape",
    "Text",
    "Violation",
    "violations_of",
]


@dataclass(frozen=True, slots=True)
class Violation:
    """One departure from the contract: `kind` is unknown, missing, type, range, pattern or undefined-attribute."""

    kind: str
    path: str
    detail: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string; lengths are counted in characters, `choices` are the allowed values, `pattern` must match as a
    whole.
    """

    shortest: int = 0
    longest: int | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number; `whole` refuses fractions, `step` demands a multiple (OCI quantities: 0.001)."""

    smallest: int | None = None
    largest: int | None = None
    whole: bool = False
    step: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""


@dataclass(frozen=True, slots=True)
class Instant:
    """An ISO-8601 instant with its offset, as the contracts' `date-time` demands."""


@dataclass(frozen=True, slots=True)
class Anything:
    """Any JSON value, not looked at."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array of `item`."""

    item: Shape
    fewest: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """An object. `extras` says what other members may appear: `none`, `any`, or `c_` (custom attributes of
    `attributes_of`).

    `attributes_of` names the system object in whose registry a `c_` attribute must be defined; with more than one, in
    all of them: createOrders needs the attribute on Basket and on Order (Orders OpenAPI, createOrders).
    `one_of` names members of which exactly one must be present.
    """

    members: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    extras: str = "none"
    attributes_of: tuple[str, ...] = field(default=())
    one_of: tuple[str, ...] = ()


Shape = Text | Number | Flag | Instant | Anything | ListOf | Record

# What the registry of custom attributes knows: system object -> attribute id -> type (string, number, boolean, date,
# set).
Registry = Mapping[str, Mapping[str, str]]


def _type_name(value: object) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    if isinstance(value, Decimal | float):
        return "Decimal"
    if isinstance(value, str):
        return "String"
    return "Array" if isinstance(value, list) else "Object"


def _wrong_type(path: str, expected: str, value: object) -> Violation:
    return Violation(
        "type",
        path,
        f"Decoding of the property with path '{path}' failed because the expected type is '{expected}' "
        f"but the actual type was '{_type_name(value)}'.",
    )


def violations_of(shape: Shape, value: object, registry: Registry | None = None, path: str = "$") -> list[Violation]:
    """Every departure of `value` from `shape`; `registry` None means that custom attributes are not looked up."""
    return list(_walk(shape, value, registry, path))


def _walk(shape: Shape, value: Any, registry: Registry | None, path: str) -> Iterator[Violation]:
    match shape:
        case Text():
            yield from _text(shape, value, path)
        case Number():
            yield from _number(shape, value, path)
        case Flag():
            if not isinstance(value, bool):
                yield _wrong_type(path, "Boolean", value)
        case Instant():
            if not isinstance(value, str):
                yield _wrong_type(path, "String", value)
            else:
                try:
                    parse_instant(value)
                except ValueError:
                    yield Violation("pattern", path, f"The value '{value}' at '{path}' is not a date-time with offset.")
        case Anything():
            return
        case ListOf():
            if not isinstance(value, list):
                yield _wrong_type(path, "Array", value)
                return
            if len(value) < shape.fewest or (shape.most is not None and len(value) > shape.most):
                most = "any number" if shape.most is None else shape.most
                yield Violation(
                    "range",
                    path,
                    f"The array '{path}' has {len(value)} elements; {shape.fewest} to {most} are allowed.",
                )
            for position, item in enumerate(value):
                yield from _walk(shape.item, item, registry, f"{path}[{position}]")
        case Record():
            yield from _record(shape, value, registry, path)


def _text(shape: Text, value: object, path: str) -> Iterator[Violation]:
    if not isinstance(value, str):
        yield _wrong_type(path, "String", value)
        return
    if shape.choices and value not in shape.choices:
        yield Violation("range", path, f"The value '{value}' at '{path}' is not one of {', '.join(shape.choices)}.")
    if len(value) < shape.shortest or (shape.longest is not None and len(value) > shape.longest):
        longest = "any length" if shape.longest is None else shape.longest
        yield Violation(
            "range",
            path,
            f"The text at '{path}' has {len(value)} characters; {shape.shortest} to {longest} are allowed.",
        )
    if shape.pattern and not re.fullmatch(shape.pattern, value):
        yield Violation("pattern", path, f"The value '{value}' at '{path}' does not match {shape.pattern}.")


def _number(shape: Number, value: object, path: str) -> Iterator[Violation]:
    expected = "Integer" if shape.whole else "Integer|Decimal"
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        yield _wrong_type(path, expected, value)
        return
    if isinstance(value, Decimal) and (not value.is_finite() or (shape.whole and value != value.to_integral())):
        yield _wrong_type(path, expected, value)
        return
    if (shape.smallest is not None and value < shape.smallest) or (shape.largest is not None and value > shape.largest):
        low = "any" if shape.smallest is None else shape.smallest
        high = "any" if shape.largest is None else shape.largest
        yield Violation("range", path, f"The number {value} at '{path}' is outside {low} to {high}.")
    if shape.step and Decimal(value) % Decimal(shape.step) != 0:
        yield Violation("range", path, f"The number {value} at '{path}' is not a multiple of {shape.step}.")


def _record(shape: Record, value: Any, registry: Registry | None, path: str) -> Iterator[Violation]:
    if not isinstance(value, dict):
        yield _wrong_type(path, "Object", value)
        return
    for name in shape.required:
        if name not in value:
            yield Violation("missing", f"{path}.{name}", f"The required property '{path}.{name}' is missing.")
    if shape.one_of and sum(name in value for name in shape.one_of) != 1:
        yield Violation("missing", path, f"Exactly one of {', '.join(shape.one_of)} must be present at '{path}'.")
    for name, member in value.items():
        inner = f"{path}.{name}"
        known = shape.members.get(name)
        if known is not None:
            yield from _walk(known, member, registry, inner)
        elif shape.extras == "any":
            continue
        elif shape.extras == "c_" and name.startswith("c_"):
            yield from _custom(shape.attributes_of, name, member, registry, inner)
        else:
            prefix = " Additional properties must start with c_." if shape.extras == "c_" else ""
            yield Violation("unknown", inner, f"The property '{inner}' is unknown.{prefix}")


def _custom(
    objects: tuple[str, ...], name: str, value: object, registry: Registry | None, path: str
) -> Iterator[Violation]:
    if registry is None:
        return
    for system_object in objects:
        kind = registry.get(system_object, {}).get(name[2:])
        if kind is None:
            yield Violation(
                "undefined-attribute",
                path,
                f"The custom attribute '{name[2:]}' at '{path}' is not defined on the system object {system_object}.",
            )
        elif value is not None and not _fits(kind, value):
            yield _wrong_type(path, kind, value)


def _fits(kind: str, value: object) -> bool:
    match kind:
        case "number":
            return isinstance(value, int | Decimal) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "set":
            return isinstance(value, list) and all(isinstance(item, str | int | Decimal) for item in value)
        case "date":
            if not isinstance(value, str):
                return False
            try:
                datetime.fromisoformat(value)
            except ValueError:
                return False
            return True
        case _:
            return isinstance(value, str)
