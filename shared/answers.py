"""Reading a vendor's answers tolerantly, and noticing what its contract did not announce.

Missing and `null` are the same; numbers may come as text; times with an offset become UTC; unknown fields are
passed over and unknown words of an enumeration stay plain text. So that none of this goes unnoticed, a sample
of the answers is compared with our types: the canary counts, per operation, fields and words nobody knows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

import msgspec
import structlog
from msgspec import Meta, inspect

from shared.errors import Transient
from shared.operations import Operation
from shared.telemetry import Metrics

T = TypeVar("T")

SAMPLE: Final = 100
"""One answer in so many is compared, and always the first of an operation."""

UtcTime = Annotated[datetime, Meta(tz=True)]
"""An aware time; `in_utc` has made it UTC before it is decoded."""

_log = structlog.stdlib.get_logger("shared.answers")
_OFFSET_TIME = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?)([+-]\d\d):?(\d\d)?"')
_ANY_OFFSET = re.compile(rb"T\d\d:\d\d:\d\d(?:\.\d+)?[+-]")
"""Seldom found, and looked for ten times as fast as the whole."""
_NAME = re.compile(r"[A-Za-z_][\w-]{0,63}")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_generic = msgspec.json.Decoder(float_hook=Decimal)


class Unreadable(Transient):
    """An answer or file that is not what was asked for; the text names the place, never the value.

    Transient, because the next one may be whole; what has an effect makes an unknown outcome of it.
    """

    def __init__(self, where: str) -> None:
        super().__init__(f"unreadable answer: {where}")


def decode(operation: Operation, body: bytes, kind: type[T]) -> T:
    """An answer's body as `kind`, which may leave out whatever its operation has no use for.

    Raises:
        Unreadable: not JSON, or without something that we cannot do without.
    """
    body = in_utc(body)
    try:
        answer: T = _decoder(kind).decode(body)
    except msgspec.ValidationError:
        answer = convert(operation, _parsed(body), kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable("not JSON") from None
    if is_sampled(operation):
        notice(operation, _parsed(body), kind)
    return answer


def convert(operation: Operation, value: Any, kind: type[T]) -> T:
    """What `decode` does, for a value that is parsed already. Raises `Unreadable`."""
    try:
        converted: T = msgspec.convert(without_nulls(value), kind, strict=False)
        return converted
    except msgspec.ValidationError as error:
        # msgspec names types and the path; where it would quote a value, only the path is kept.
        raise Unreadable(f"at {_place(error)}") from None
    except RecursionError:
        raise Unreadable("nested too deep") from None


def parsed(body: bytes) -> Any:
    """JSON as plain values, numbers with a point as `Decimal`, times in UTC. Raises `Unreadable`."""
    return _parsed(in_utc(body))


def _parsed(body: bytes) -> Any:
    try:
        return _generic.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable("not JSON") from None


def _place(error: msgspec.ValidationError) -> str:
    text = str(error)
    _, found, path = text.rpartition(" - at `")
    missing = re.match(r"Object missing required field `(\w+)`", text)
    where = path.rstrip("`") if found else "$"
    return f"{where}, without {missing[1]}" if missing else where


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]


def in_utc(body: bytes) -> bytes:
    """Every time with an offset, rewritten in UTC; vendors promise `Z` and forget it at times."""
    return _OFFSET_TIME.sub(_as_utc, body) if _ANY_OFFSET.search(body) else body


def _as_utc(match: re.Match[bytes]) -> bytes:
    moment, hours, minutes = (part.decode() for part in (match[1], match[2], match[3] or b"00"))
    try:
        found = datetime.fromisoformat(f"{moment[:26]}{hours}:{minutes}").astimezone(UTC)
    except (ValueError, OverflowError):
        return match[0]
    return b'"' + found.isoformat().replace("+00:00", "Z").encode() + b'"'


def without_nulls(value: Any) -> Any:
    """The same value, its members without a value left out."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value if item is not None]
    return value


# The canary -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Object:
    fields: Mapping[str, Any]
    passed_over: frozenset[str]


@dataclass(frozen=True, slots=True)
class _List:
    item: Any


@dataclass(frozen=True, slots=True)
class _Words:
    known: frozenset[str]


_plans: dict[Any, Any] = {}
_answers: Counter[str] = Counter()
_told: set[tuple[str, str]] = set()


def is_sampled(operation: Operation) -> bool:
    """Whether this answer's turn has come."""
    _answers[operation.name] += 1
    return _answers[operation.name] % SAMPLE == 1


def notice(operation: Operation, value: Any, kind: type[Any]) -> None:
    """Count what an answer holds and our types do not know; tell each name once, values never."""
    for sort, name in surprises(value, kind):
        Metrics.remote_surprises.add(1, {"system": operation.system, "operation": operation.name, "kind": sort})
        if (operation.name, name) not in _told and len(_told) < 1000:
            _told.add((operation.name, name))
            _log.warning("the contract has more than we know", operation=operation.name, field_names=name)


def surprises(value: Any, kind: type[Any]) -> list[tuple[str, str]]:
    """Unknown fields (`field`, its path) and unknown words of enumerations (`word`, the field's path)."""
    found: dict[tuple[str, str], None] = {}
    _compare(value, _plan(kind), "", found)
    return list(found)


def _compare(value: Any, plan: Any, path: str, found: dict[tuple[str, str], None]) -> None:
    if isinstance(plan, _Object) and isinstance(value, dict):
        for name, member in value.items():
            where = f"{path}.{name}" if path else str(name)
            if name in plan.fields:
                _compare(member, plan.fields[name], where, found)
            elif name not in plan.passed_over and _NAME.fullmatch(name):
                found["field", where] = None
    elif isinstance(plan, _List) and isinstance(value, list):
        for item in value:
            _compare(item, plan.item, f"{path}[]", found)
    elif isinstance(plan, _Words) and isinstance(value, str) and value not in plan.known:
        found["word", path] = None


def _plan(kind: Any) -> Any:
    if kind not in _plans:
        _plans[kind] = _plan_of(inspect.type_info(kind))
    return _plans[kind]


def _plan_of(info: inspect.Type) -> Any:
    match info:
        case inspect.Metadata(type=inner, extra=extra):
            return _Words(extra["words"]) if extra and "words" in extra else _plan_of(inner)
        case inspect.StructType(cls=cls, fields=fields):
            return _Object(
                {field.encode_name: _plan_of(field.type) for field in fields}, getattr(cls, "passed_over", frozenset())
            )
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return _List(_plan_of(item))
        case inspect.UnionType(types=types):
            plans = [plan for part in types if (plan := _plan_of(part)) is not None]
            return plans[0] if len(plans) == 1 else None
        case _:
            return None
