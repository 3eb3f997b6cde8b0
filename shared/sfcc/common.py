"""What SFCC's requests and answers share: names in camel case, and custom attributes as `c_` members.

`custom` holds the custom attributes by their ids, without the prefix. Numbers with a point are `Decimal`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from shared.answers import convert, is_sampled, notice, parsed
from shared.operations import Operation

T = TypeVar("T")

CustomValue = str | Decimal | int | bool | tuple[str, ...] | None
"""What a custom attribute may be; `None` clears it."""


class Read(Struct, frozen=True, kw_only=True, rename="camel"):
    """Part of an answer."""

    passed_over: ClassVar[frozenset[str]] = frozenset()


class Written(Struct, frozen=True, kw_only=True, rename="camel"):
    """Part of a request: what is left out is not sent."""


def on_wire(value: object) -> Any:
    """A request as JSON values, custom attributes among the other members."""
    if isinstance(value, Written):
        members: dict[str, Any] = {}
        for name, encoded in _names(type(value)):
            member = getattr(value, name)
            if name == "custom":
                members.update({f"c_{name}": on_wire(item) for name, item in member.items()})
            elif member is not UNSET:
                members[encoded] = on_wire(member)
        return members
    if isinstance(value, tuple | list):
        return [on_wire(item) for item in value]
    return value


@cache
def _names(kind: type[Written]) -> tuple[tuple[str, str], ...]:
    """A request's members, ours and on the wire; found once, because msgspec looks at the annotations every time."""
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(kind))


def decode_custom(operation: Operation, body: bytes, kind: type[T]) -> T:
    """An answer with custom attributes. Raises `Unreadable`."""
    return convert_custom(operation, parsed(body), kind)


def convert_custom(operation: Operation, value: Any, kind: type[T]) -> T:
    """What `decode_custom` does, for a value that is parsed already."""
    gathered = _gathered(value)
    answer = convert(operation, gathered, kind)
    if is_sampled(operation):
        notice(operation, gathered, kind)
    return answer


def _gathered(value: Any) -> Any:
    """The same value, the `c_` members of every object as one member `custom`."""
    if isinstance(value, dict):
        custom = {name[2:]: member for name, member in value.items() if name.startswith("c_")}
        members = {name: _gathered(member) for name, member in value.items() if not name.startswith("c_")}
        return {**members, "custom": custom} if custom else members
    if isinstance(value, list):
        return [_gathered(item) for item in value]
    return value


Text = str | UnsetType
