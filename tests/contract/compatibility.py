"""Compatibility by execution: what one version of a Struct writes, the other must read, losing nothing.

`reader_losses(writer, reader)` draws payloads that the writer's Struct allows, at the edges of every
constraint and in between, and hands each to the reader's Struct. Strict comparisons of two schemas
would refuse even a new optional field; running both refuses only what hurts somebody.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

import msgspec
import msgspec.inspect as mi
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.events.base import Event

PAYLOADS = 25


def reader_losses(writer: type[Event], reader: type[Event], payloads: int = PAYLOADS) -> list[str]:
    """What the reader refuses or drops of the writer's payloads; empty when the two get on."""
    losses: list[str] = []
    compared = 0
    encoder, written, read = msgspec.json.Encoder(), msgspec.json.Decoder(writer), msgspec.json.Decoder(reader)
    lost_names = _names(mi.type_info(reader)) - _names(mi.type_info(writer))

    @settings(
        max_examples=payloads,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_payload(writer))
    def run(drawn: Any) -> None:
        nonlocal compared
        try:
            event = written.decode(json.dumps(drawn, ensure_ascii=False).encode())
        except msgspec.ValidationError:
            return  # The drawing knows the fields' constraints, not the rules between fields.
        compared += 1
        payload = json.loads(encoder.encode(event))
        payload["a_field_from_the_future"] = {"nested": [1, "two"]}
        losses.extend(losses_of(payload, read))

    run()
    assert compared >= payloads // 5, f"hardly any payload of {writer.TYPE} was valid: teach the drawing its rules"
    # A field that the reader has and the writer no longer fills reads as its default: silently lost.
    losses.extend(f"{name}: the writer no longer has it" for name in sorted(lost_names))
    return sorted(set(losses))


def losses_of(payload: Any, reader: msgspec.json.Decoder[Event]) -> list[str]:
    """What of one payload the reader refuses or reads differently, in the fields that it knows."""
    try:
        event = reader.decode(json.dumps(payload, ensure_ascii=False).encode())
    except (msgspec.ValidationError, ArithmeticError) as error:
        return [str(error)]
    return _differences(payload, json.loads(msgspec.json.encode(event)), "$")


def unread(payload: Any, today: type[Event]) -> list[str]:
    """The members of an old payload that today's Struct no longer takes in."""
    event = msgspec.json.decode(json.dumps(payload, ensure_ascii=False).encode(), type=today)
    return _missing(payload, json.loads(msgspec.json.encode(event)), "$")


def _missing(old: Any, new: Any, path: str) -> list[str]:
    match old, new:
        case dict(), dict():
            return [
                loss
                for name, value in old.items()
                for loss in (
                    _missing(value, new[name], f"{path}.{name}") if name in new else [f"{path}.{name}: no longer read"]
                )
            ]
        case list(), list() if len(old) == len(new):
            return [
                loss for at, (a, b) in enumerate(zip(old, new, strict=True)) for loss in _missing(a, b, f"{path}[{at}]")
            ]
    return [] if old == new else [f"{path}: {old!r} is now read as {new!r}"]


def _differences(sent: Any, seen: Any, path: str) -> list[str]:
    """As `_missing`, but only where the reader has the field: it may be older than the writer."""
    match sent, seen:
        case dict(), dict():
            return [
                loss
                for name, value in seen.items()
                if name in sent
                for loss in _differences(sent[name], value, f"{path}.{name}")
            ]
        case list(), list() if len(sent) == len(seen):
            return [
                loss
                for at, (a, b) in enumerate(zip(sent, seen, strict=True))
                for loss in _differences(a, b, f"{path}[{at}]")
            ]
    return [] if sent == seen else [f"{path}: {sent!r} is read as {seen!r}"]


def _names(info: mi.Type, path: str = "$") -> set[str]:
    """The paths of all fields in a type."""
    match info:
        case mi.Metadata():
            return _names(info.type, path)
        case mi.UnionType():
            return set().union(*(_names(part, path) for part in info.types))
        case mi.VarTupleType():
            return _names(info.item_type, f"{path}[]")
        case mi.StructType():
            here = {f"{path}.{field.name}" for field in info.fields}
            return here.union(*(_names(field.type, f"{path}.{field.name}") for field in info.fields))
    return set()


def _payload(writer: type[Event]) -> st.SearchStrategy[Any]:
    return _values(mi.type_info(writer)).map(_keep_rules_between_fields)


def _keep_rules_between_fields(payload: dict[str, Any]) -> dict[str, Any]:
    """Repairs what a field-by-field drawing cannot know, so that enough payloads are valid."""
    if payload.get("postings"):
        one = payload["postings"][0]["amount"]
        one["amount"] = one["amount"].removeprefix("-")
        payload["postings"] = [{**payload["postings"][0], "side": side, "amount": one} for side in ("debit", "credit")]
    if "order_id" in payload and "about" in payload:
        payload["about"] = f"order/{payload['marketplace']}/{payload['order_id']}"
    if "offset" in payload and "about" in payload:
        payload["about"] = f"dead-letter/{payload['topic']}/{payload['partition']}/{payload['offset']}"
    return payload


def _values(info: mi.Type, pattern: str | None = None) -> st.SearchStrategy[Any]:
    """JSON values that a type takes, its edges first."""
    match info:
        case mi.Metadata():
            return _values(info.type, (info.extra_json_schema or {}).get("pattern", pattern))
        case mi.UnionType():
            return st.one_of(*(_values(part) for part in info.types))
        case mi.NoneType():
            return st.none()
        case mi.BoolType():
            return st.booleans()
        case mi.LiteralType():
            return st.sampled_from(info.values)
        case mi.IntType():
            low, high = info.ge if info.ge is not None else -(2**53), info.le if info.le is not None else 2**53
            return st.sampled_from([low, high]) | st.integers(low, high)
        case mi.DecimalType():
            assert pattern is not None, "a decimal without a pattern is drawn from nothing"
            return st.from_regex(pattern.removesuffix("$"), fullmatch=True)
        case mi.DateTimeType():
            return st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat())
        case mi.StrType() if info.pattern is not None:
            longest = info.max_length or 10_000
            drawn = st.from_regex(info.pattern.removesuffix(r"$(?!\n)"), fullmatch=True, alphabet=_ASCII)
            return drawn.filter(lambda text: len(text) <= longest)
        case mi.StrType():
            low, high = info.min_length or 0, info.max_length or 50
            edges = [("x" * low) or "", "é" * high]
            return st.sampled_from(edges) | st.text(_ASCII, min_size=low, max_size=min(high, max(low, 30)))
        case mi.VarTupleType():
            most = 2 if info.max_length is None else min(info.max_length, 2)
            return st.lists(
                _values(info.item_type), min_size=info.min_length or 0, max_size=max(most, info.min_length or 0)
            )
        case mi.DictType():
            return st.dictionaries(_values(info.key_type), _values(info.value_type), max_size=2)
        case mi.StructType():
            return st.fixed_dictionaries(
                {field.name: _values(field.type) for field in info.fields if field.required},
                optional={field.name: _values(field.type) for field in info.fields if not field.required},
            )
    raise NotImplementedError(f"no values are drawn for {info}: add the type here")


_ASCII = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
