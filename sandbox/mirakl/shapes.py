"""The little language in which requests are described, and the check of a request against it.

A body is described by plain data: a dict for an object (a key ending in `*` is required), a one-element list for an
array, a `Leaf` for a value. Query parameters are `Param`s. Checking yields `Problem`s; a fatal one is a 400, the
others are only recorded: the real platform is known to take numbers written as strings, and to ignore what it does
not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from sandbox.common.clock import parse_instant

Type = Literal["string", "int", "number", "bool", "datetime", "date", "any", "file"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value: its type, its closed list if it has one, its bounds (lengths for strings, sizes for numbers)."""

    type: Type
    values: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Many:
    """An array with bounds on its length."""

    item: Any
    low: int = 0
    high: int | None = None


# Numbers are 64 bits wide on the platform's side.
LARGEST = 2**63

STR = Leaf("string")
INT = Leaf("int")
NUM = Leaf("number")
BOOL = Leaf("bool")
DATETIME = Leaf("datetime")
ANY = Leaf("any")
FILE = Leaf("file")


def one_of(*values: str) -> Leaf:
    return Leaf("string", values)


def text(low: int, high: int | None = None) -> Leaf:
    return Leaf("string", (), low, high)


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter. `many`: how several values are written, as one comma list, repeated, or either way."""

    name: str
    leaf: Leaf = STR
    many: Literal["comma", "repeat", "both"] | None = None
    required: bool = False
    high: int | None = None
    """Most values a list may have."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a request, where, under which rule; a fatal one is refused."""

    rule: str
    where: str
    message: str
    fatal: bool = True


def check_query(
    params: Mapping[str, Param], query: Sequence[tuple[str, str]], problems: list[Problem], *, refuse_unknown: bool
) -> dict[str, Any]:
    """The typed values of a query string; lists for parameters that may have several."""
    found: dict[str, Any] = {}
    for name, raw in query:
        param = params.get(name)
        if param is None:
            problems.append(Problem("unknown_parameter", name, f"Unknown parameter {name}", refuse_unknown))
            continue
        if param.many is None:
            if name in found:
                problems.append(Problem("repeated_parameter", name, f"The parameter {name} is given twice", False))
            value = _read(param.leaf, raw, name, problems)
            if value is not None:
                found[name] = value
            continue
        pieces = [raw] if param.many == "repeat" else [piece.strip() for piece in raw.split(",")]
        values = found.setdefault(name, [])
        for piece in pieces:
            value = _read(param.leaf, piece, name, problems)
            if value is not None:
                values.append(value)
    for name, param in params.items():
        if param.required and name not in found:
            problems.append(Problem("missing_parameter", name, f"The parameter {name} is required"))
        if param.high is not None and len(found.get(name, ())) > param.high:
            # The wording is the one seen on a live platform.
            problems.append(
                Problem("too_many", name, f"The limit of {param.high} is exceeded for the parameter : {name}")
            )
    return found


def _read(leaf: Leaf, raw: str, where: str, problems: list[Problem]) -> Any:
    """One value out of its text."""
    try:
        match leaf.type:
            case "int":
                value: Any = int(raw)
            case "number":
                value = Decimal(raw)
            case "bool":
                if raw.lower() not in ("true", "false"):
                    raise ValueError
                return raw.lower() == "true"
            case "datetime":
                return parse_instant(raw)
            case _:
                value = raw
    except (ValueError, InvalidOperation):
        problems.append(Problem("wrong_type", where, f"The value {raw!r} of {where} is not a {leaf.type}"))
        return None
    problem = _outside(leaf, value, where)
    if problem:
        problems.append(problem)
        return None
    return value


def _outside(leaf: Leaf, value: Any, where: str) -> Problem | None:
    if leaf.values and value not in leaf.values:
        return Problem("unknown_value", where, f"The value {value!r} of {where} is none of {', '.join(leaf.values)}")
    size = len(value) if isinstance(value, str) else value
    if (leaf.low is not None and size < leaf.low) or (leaf.high is not None and size > leaf.high):
        return Problem("out_of_bounds", where, f"{where} lies outside {leaf.low} … {leaf.high}")
    return None


def check_body(shape: Any, value: Any, where: str, problems: list[Problem], *, refuse_unknown: bool) -> Any:
    """The value with its leaves typed (decimals, instants); what does not fit becomes a problem and None."""
    if isinstance(shape, Leaf):
        return _leaf(shape, value, where, problems)
    if isinstance(shape, list):
        shape = Many(shape[0])
    if isinstance(shape, Many):
        if not isinstance(value, list):
            problems.append(Problem("wrong_type", where, f"{where} is not an array"))
            return None
        if len(value) < shape.low or (shape.high is not None and len(value) > shape.high):
            problems.append(
                Problem(
                    "out_of_bounds", where, f"{where} has {len(value)} elements, allowed are {shape.low} … {shape.high}"
                )
            )
            return None
        checked: list[Any] = []
        for index, item in enumerate(value):
            place = f"{where}[{index}]"
            if item is None:
                problems.append(Problem("null_element", place, f"{place} is null"))
                checked.append(None)
            else:
                checked.append(check_body(shape.item, item, place, problems, refuse_unknown=refuse_unknown))
        return checked
    if not isinstance(value, dict):
        problems.append(Problem("wrong_type", where, f"{where or 'body'} is not an object"))
        return None
    return _object(shape, value, where, problems, refuse_unknown)


def _object(
    shape: Mapping[str, Any], value: Mapping[str, Any], where: str, problems: list[Problem], refuse_unknown: bool
) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    known = set()
    for key, inner in shape.items():
        name = key.rstrip("*")
        known.add(name)
        place = f"{where}.{name}" if where else name
        if name not in value or (value[name] is None and key.endswith("*")):
            if key.endswith("*"):
                problems.append(Problem("missing_field", place, f"{place} is required"))
            continue
        # An explicit null is kept: patch calls delete with it.
        if value[name] is None:
            checked[name] = None
        else:
            checked[name] = check_body(inner, value[name], place, problems, refuse_unknown=refuse_unknown)
    for name in value.keys() - known:
        place = f"{where}.{name}" if where else name
        problems.append(Problem("unknown_field", place, f"Unknown field {place}", refuse_unknown))
    return checked


def _leaf(leaf: Leaf, value: Any, where: str, problems: list[Problem]) -> Any:
    wrong = Problem("wrong_type", where, f"{where} is not a {leaf.type}")
    match leaf.type:
        case "any" | "file":
            return value
        case "string":
            if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
                problems.append(wrong)
                return None
            if not isinstance(value, str):
                problems.append(Problem("number_for_string", where, f"{where} is a number, not a string", False))
                value = str(value)
        case "bool":
            if not isinstance(value, bool):
                problems.append(wrong)
                return None
            return value
        case "int" | "number":
            if isinstance(value, str):
                problems.append(Problem("string_for_number", where, f"{where} is a string, not a number", False))
            try:
                number = Decimal(str(value)) if not isinstance(value, bool) else None
            except InvalidOperation:
                number = None
            if (
                number is None
                or not number.is_finite()
                or (leaf.type == "int" and (abs(number) >= LARGEST or number != number.to_integral_value()))
            ):
                problems.append(wrong)
                return None
            value = int(number) if leaf.type == "int" else number
        case "datetime" | "date":
            try:
                value = parse_instant(value) if leaf.type == "datetime" else date.fromisoformat(value)
            except (ValueError, TypeError):
                problems.append(wrong)
                return None
            return value
    problem = _outside(leaf, value, where)
    if problem:
        problems.append(problem)
        return None
    return value


def template_pattern(path: str) -> re.Pattern[str]:
    """A path template as a pattern with one named group per placeholder."""
    return re.compile("^" + re.sub(r"\{(\w+)\}", lambda found: f"(?P<{found[1]}>[^/]+)", path) + "$")
