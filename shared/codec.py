"""Events to bytes and back: JSON, checked on the way out by the constraints that readers apply.

`encode` refuses in the writer's transaction what a reader would refuse later, so that no record of
ours ever becomes somebody's dead letter. `decode` turns msgspec's reason into one that names the
place, the rule and the remedy.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from shared.envelope import path_in
from shared.errors import Permanent
from shared.events.base import Event, subject_of
from shared.topics import EVENT_TYPES

__all__ = ["MAX_KEY_BYTES", "InvalidEvent", "InvalidValue", "decode", "encode", "known", "subject_of"]

MAX_KEY_BYTES: Final = 512
"""Keys are indexed and repeated in every table; the longest SFCC product id takes 250 characters."""

# What a decoder or an event's own check can raise: msgspec.DecodeError and bad UTF-8 (ValueError), a
# decimal such as "1.2.3" or a comparison with NaN (ArithmeticError), brackets nested without end.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError)
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_NUL_REASON: Final = "text contains the character U+0000, which PostgreSQL cannot hold"

_encoder: Final = msgspec.json.Encoder()
_decoders: Final[dict[type[Event], msgspec.json.Decoder[Event]]] = {}
_by_wire_type: Final[dict[str, msgspec.json.Decoder[Event]]] = {}


class InvalidEvent(Permanent):
    """An event of ours that no reader would take; `field` is the path in it, `rule` what it breaks."""


class InvalidValue(Permanent):
    """A payload that does not decode as its type; `rule` is `invalid-value`, `field` the path."""


def known(wire_type: str) -> bool:
    """Whether this code has a Struct for exactly this type and version."""
    return wire_type in EVENT_TYPES


def encode(event: Event) -> bytes:
    """The payload, proven readable: decoded once by the typed decoder before anybody sees it.

    Raises InvalidEvent with the rules `unencodable` (text that is no Unicode), `invalid-value` (what
    a reader would refuse) and `invalid-key` (empty, over `MAX_KEY_BYTES` in UTF-8, or with NUL).
    """
    kind = type(event)
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        value = _encoder.encode(event)
        key = event.key.encode()
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"{event.TYPE} holds text that is no Unicode ({error.reason}): clean it where it enters",
            rule="unencodable",
            field="$",
        ) from None
    try:
        decoder.decode(value)
    except _UNREADABLE as error:
        raise _unreadable(event, _reason(error)) from None
    if not key or len(key) > MAX_KEY_BYTES or b"\0" in key:
        raise InvalidEvent(
            f"the key of {event.TYPE} has {len(key)} bytes ({event.key[:80]!r}): it must have 1 to {MAX_KEY_BYTES} "
            "bytes and no NUL character",
            rule="invalid-key",
            field="key",
        )
    if _has_nul(value):
        raise _unreadable(event, _NUL_REASON)
    return value


def decode(wire_type: str, value: bytes) -> Event:
    """The event in a payload. Fields we do not know are ignored.

    Raises InvalidValue when the payload does not fit the type, KeyError when the type is not `known`:
    the consumer asks first, because an unknown type is skipped or waited for, never dead.
    """
    decoder = _by_wire_type.get(wire_type)
    if decoder is None:
        decoder = _by_wire_type[wire_type] = msgspec.json.Decoder(EVENT_TYPES[wire_type])
    try:
        event = decoder.decode(value)
        reason = _NUL_REASON if _has_nul(value) else None
    except _UNREADABLE as error:
        reason = _reason(error)
    if reason is None:
        return event
    raise InvalidValue(
        f"the value is no {wire_type}: {reason}; compare it with schemas/ and send it corrected",
        rule="invalid-value",
        field=path_in(reason),
    )


def _unreadable(event: Event, reason: str) -> InvalidEvent:
    return InvalidEvent(
        f"{event.TYPE} with key {event.key!r} would be refused by its readers: {reason}; correct the writer",
        rule="invalid-value",
        field=path_in(reason),
    )


def _has_nul(value: bytes) -> bool:
    # PostgreSQL's text and jsonb cannot hold U+0000. JSON carries it only as an escape, and the cheap
    # search comes first because hardly any payload has the six characters at all.
    return b"\\u0000" in value and _NUL.search(value) is not None


def _reason(error: BaseException) -> str:
    if isinstance(error, ArithmeticError):
        return "a decimal is not a plain number"
    return str(error)
