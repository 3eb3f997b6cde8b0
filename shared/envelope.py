"""The envelope: CloudEvents 1.0 attributes as Kafka headers, with the W3C trace context beside them.

We write binary mode (attributes in headers, the bare payload as value) and read structured mode too,
because an outside producer may prefer it. Source: CloudEvents "Kafka Protocol Binding" 1.0.2, the
"Sequence" extension, and W3C Trace Context level 1.

Identity is `ce_id` together with `ce_source`: made once by the producer, the same over resend, retry,
dead letter and replay. `ce_sequence` grows per source and key; readers use it to drop what is older
than what they have, so a record without it cannot be handled and is refused by name.

This file runs for every record: it is written for speed first, with one straight path.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NoReturn

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from shared.errors import Permanent

MAX_SEQUENCE: Final = 2**63 - 1
"""What PostgreSQL's bigint can hold, since readers keep the sequence in their state."""

_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE: Final = re.compile(rb"[\x20-\x7e]{1,512}")
_JSON_TYPE: Final = re.compile(rb"application/(?:[a-z0-9.+-]+\+)?json(?:\s*;.*)?", re.IGNORECASE | re.DOTALL)
_PATH: Final = re.compile(r" - at `(\$[^`]*)`")
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_STRUCTURED: Final = b"application/cloudevents"

_SPECVERSION_HEADER: Final = ("ce_specversion", b"1.0")
_CONTENT_TYPE_HEADER: Final = ("content-type", b"application/json")


class EnvelopeError(Permanent):
    """The record's attributes cannot be read; `rule` says what is wrong and `field` where."""


class Envelope(Struct, frozen=True, gc=False):
    """Who says what, when, about which key, and as which version of it."""

    id: str
    source: str
    type: str
    time: datetime
    """Aware UTC: when the fact happened, not when it was sent."""
    subject: str | None
    """The Kafka key as text."""
    sequence: int
    """Grows per `source` and key; 0 to `MAX_SEQUENCE`."""
    dataschema: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


def to_headers(envelope: Envelope) -> list[tuple[str, bytes]]:
    """The Kafka headers of binary mode.

    Raises EnvelopeError (`invalid-header`) for a time that is not UTC and a sequence out of range:
    both would be refused by every reader.
    """
    sequence = envelope.sequence
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise EnvelopeError(
            f"sequence {sequence} is outside 0 to {MAX_SEQUENCE}: use the version of the row that was locked",
            rule="invalid-header",
            field="ce_sequence",
        )
    headers = [
        _SPECVERSION_HEADER,
        _header("ce_type", envelope.type),
        _header("ce_source", envelope.source),
        ("ce_id", envelope.id.encode()),
        _time_header(envelope.time),
        ("ce_sequence", b"%020d" % sequence),
        _CONTENT_TYPE_HEADER,
    ]
    if envelope.subject is not None:
        headers.append(("ce_subject", envelope.subject.encode()))
    if envelope.dataschema is not None:
        headers.append(_header("ce_dataschema", envelope.dataschema))
    if envelope.traceparent is not None:
        headers.append(("traceparent", envelope.traceparent.encode()))
        if envelope.tracestate is not None:
            headers.append(("tracestate", envelope.tracestate.encode()))
    return headers


@lru_cache(1024)
def _header(name: str, text: str) -> tuple[str, bytes]:
    """A header that many records share."""
    return name, text.encode()


@lru_cache(1024)
def _time_header(at: datetime) -> tuple[str, bytes]:
    """`ce_time`; a batch has one time for all that it publishes."""
    time = at.isoformat()
    if time[-6:] != "+00:00":
        raise EnvelopeError(
            f"the event's time {time} is not UTC: pass an aware time in UTC", rule="invalid-header", field="ce_time"
        )
    return "ce_time", (time[:-6] + "Z").encode()


def from_record(headers: Sequence[tuple[str, bytes]], value: bytes | None) -> tuple[Envelope, bytes]:
    """The envelope and the bare payload of a record in either mode.

    A malformed `traceparent` is dropped: a trace is never worth a record. Everything else that is
    wrong raises EnvelopeError with one of the rules `missing-value`, `missing-header`,
    `invalid-header`, `duplicate-header`, `unsupported-specversion`, `missing-sequence`,
    `invalid-structured`; `field` is the header's name (`ce_id`), in structured mode the path (`$.id`).
    """
    if value is None:
        raise EnvelopeError(
            "the record has no value: topics here are not compacted and a tombstone means nothing; send the event",
            rule="missing-value",
            field="value",
        )
    found = dict(headers)
    if len(found) != len(headers):
        _refuse_doubled_attributes(headers)
    content_type = found.get("content-type")
    if content_type is not None and content_type != b"application/json":
        if content_type[: len(_STRUCTURED)].lower() == _STRUCTURED:
            return _from_structured(content_type, value, found)
        if _JSON_TYPE.fullmatch(content_type) is None:
            raise EnvelopeError(
                f"content-type {_shown(content_type)} is not JSON: send the payload as application/json",
                rule="invalid-header",
                field="content-type",
            )
    return _envelope(found, "ce_{}"), value


def _envelope(found: dict[str, bytes], place: str) -> Envelope:
    """The attributes under their header names; `place` turns a name into what the sender calls it."""
    if found.get("ce_specversion") != b"1.0":
        _refuse_specversion(found, place)
    raw = found.get("ce_sequence")
    if raw is None:
        field = place.format("sequence")
        raise EnvelopeError(
            f"{field} is missing: send the CloudEvents sequence extension, 20 digits padded with zeros and growing "
            "per source and key, or nobody can tell this event from an older one",
            rule="missing-sequence",
            field=field,
        )
    if len(raw) != 20 or not raw.isdigit() or (sequence := int(raw)) > MAX_SEQUENCE:
        field = place.format("sequence")
        raise EnvelopeError(
            f"{field} {_shown(raw)} is no sequence: send 20 digits padded with zeros, {MAX_SEQUENCE:020d} at most",
            rule="invalid-header",
            field=field,
        )
    traceparent = found.get("traceparent")
    tracestate = None
    if traceparent is not None:
        if _TRACEPARENT.fullmatch(traceparent) is None:
            traceparent = None
        else:
            tracestate = found.get("tracestate")
            if tracestate is not None and _TRACESTATE.fullmatch(tracestate) is None:
                tracestate = None
    return Envelope(
        _text(found, "ce_id", 1024, place),
        _known.get(found.get("ce_source")) or _shared_text(found, "ce_source", 512, place),
        _known.get(found.get("ce_type")) or _shared_text(found, "ce_type", 255, place),
        _time(_text(found, "ce_time", 64, place), place),
        _text(found, "ce_subject", 512, place) if "ce_subject" in found else None,
        sequence,
        (_known.get(found["ce_dataschema"]) or _shared_text(found, "ce_dataschema", 1024, place))
        if "ce_dataschema" in found
        else None,
        None if traceparent is None else traceparent.decode("ascii"),
        None if tracestate is None else tracestate.decode("ascii"),
    )


_KNOWN_TEXTS: Final = 4096
_known: dict[bytes | None, str] = {}
"""Types, sources and schemas that came before: there are few, and each was checked once by the strictest limit."""


def _shared_text(found: dict[str, bytes], name: str, limit: int, place: str) -> str:
    text = _text(found, name, limit, place)
    # A foreign producer may make up new ones without end; what is kept has the shortest limit of the three.
    if len(_known) < _KNOWN_TEXTS and len(found[name]) <= 255:
        _known[found[name]] = text
    return text


def _text(found: dict[str, bytes], name: str, limit: int, place: str) -> str:
    raw = found.get(name)
    if not raw or len(raw) > limit or b"\0" in raw:
        _refuse_text(raw, name, limit, place)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        field = place.format(name[3:])
        raise EnvelopeError(
            f"{field} {_shown(raw)} is not UTF-8 ({error.reason} at byte {error.start}): encode it as UTF-8",
            rule="invalid-header",
            field=field,
        ) from None


def _time(text: str, place: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is UTC:
            return time
        if time.tzinfo is not None:
            return time.astimezone(UTC)
        reason = "has no zone"
    except (ValueError, OverflowError):
        reason = "is no time"
    field = place.format("time")
    raise EnvelopeError(
        f"{field} {text!r} {reason}: send RFC 3339 with a zone, such as 2026-03-01T09:30:00.123Z",
        rule="invalid-header",
        field=field,
    )


class _Structured(Struct, frozen=True):
    """The JSON event format. Unknown extensions are ignored; `data` stays as the sender wrote it."""

    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: str | None = None
    subject: str | None = None
    sequence: str | None = None
    dataschema: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    data: Raw | UnsetType = UNSET
    data_base64: str | UnsetType = UNSET


_structured = msgspec.json.Decoder(_Structured)
_ATTRIBUTES: Final = ("specversion", "id", "source", "type", "time", "subject", "sequence", "dataschema")


def _from_structured(content_type: bytes, value: bytes, headers: dict[str, bytes]) -> tuple[Envelope, bytes]:
    if re.fullmatch(rb"application/cloudevents\+json(?:\s*;.*)?", content_type, re.IGNORECASE | re.DOTALL) is None:
        raise EnvelopeError(
            f"content-type {_shown(content_type)} is neither binary nor JSON structured mode: send one event per "
            "record, as application/cloudevents+json or as application/json with ce_ headers",
            rule="invalid-structured",
            field="content-type",
        )
    try:
        event = _structured.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error)
        raise EnvelopeError(
            f"the value is no CloudEvent in JSON ({text}): send one JSON object in UTF-8 with string attributes",
            rule="invalid-structured",
            field=path_in(text),
        ) from None
    if event.datacontenttype is not None and _JSON_TYPE.fullmatch(event.datacontenttype.encode()) is None:
        raise EnvelopeError(
            f"datacontenttype {event.datacontenttype[:80]!r} is not JSON: send the data as application/json",
            rule="invalid-structured",
            field="$.datacontenttype",
        )
    attributes = {"ce_" + name: text.encode() for name in _ATTRIBUTES if (text := getattr(event, name)) is not None}
    for name in ("traceparent", "tracestate"):
        # The distributed tracing extension puts them into the event; otherwise the record's own count.
        if (text := getattr(event, name)) is not None:
            attributes[name] = text.encode()
        elif name in headers:
            attributes[name] = headers[name]
    return _envelope(attributes, "$.{}"), _structured_data(event)


def _structured_data(event: _Structured) -> bytes:
    if isinstance(event.data_base64, str):
        if event.data is not UNSET:
            raise EnvelopeError(
                "data and data_base64 are both there: send one of them",
                rule="invalid-structured",
                field="$.data_base64",
            )
        try:
            return base64.b64decode(event.data_base64, validate=True)
        except ValueError as error:
            raise EnvelopeError(
                f"data_base64 cannot be read ({error}): send standard base64 with padding",
                rule="invalid-structured",
                field="$.data_base64",
            ) from None
    if isinstance(event.data, Raw):
        return bytes(event.data)
    raise EnvelopeError(
        "the event has no data: send the payload as the JSON member data", rule="invalid-structured", field="$.data"
    )


def path_in(message: str) -> str:
    """The JSON path in a message of msgspec's, with the field that is missing; `$` when the whole value is to blame."""
    match, missing = _PATH.search(message), _MISSING.match(message)
    path = match[1] if match else "$"
    return f"{path}.{missing[1]}" if missing else path


def _refuse_doubled_attributes(headers: Sequence[tuple[str, bytes]]) -> None:
    """Two values for one attribute leave nobody to say which counts; other people's headers may repeat."""
    seen = set()
    for name, _ in headers:
        if name in seen and (name.startswith("ce_") or name == "content-type"):
            raise EnvelopeError(
                f"the header {name} is there twice: send every attribute once", rule="duplicate-header", field=name
            )
        seen.add(name)


def _refuse_specversion(found: dict[str, bytes], place: str) -> NoReturn:
    field = place.format("specversion")
    raw = found.get("ce_specversion")
    if raw is None:
        raise EnvelopeError(
            f"{field} is missing: the record is no CloudEvent; send binary mode (ce_ headers) or structured mode "
            "(content-type application/cloudevents+json)",
            rule="missing-header",
            field=field,
        )
    raise EnvelopeError(
        f"{field} {_shown(raw)} is not supported: send 1.0", rule="unsupported-specversion", field=field
    )


def _refuse_text(raw: bytes | None, name: str, limit: int, place: str) -> NoReturn:
    field = place.format(name[3:])
    if raw is None:
        raise EnvelopeError(
            f"{field} is missing: send the CloudEvents attribute {name[3:]}", rule="missing-header", field=field
        )
    if not raw:
        reason = f"{field} is empty: send a value or leave an optional attribute out"
    elif len(raw) > limit:
        reason = f"{field} has {len(raw)} bytes, more than the {limit} we keep: send a shorter one ({_shown(raw)})"
    else:
        reason = f"{field} {_shown(raw)} contains a NUL character, which PostgreSQL's text cannot hold: leave it out"
    raise EnvelopeError(reason, rule="invalid-header", field=field)


def _shown(raw: bytes) -> str:
    """The bytes as a person can read them, cut to a length that fits a log line."""
    text = raw[:80].decode(errors="backslashreplace")
    return repr(text) + ("…" if len(raw) > 80 else "")
