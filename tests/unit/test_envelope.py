"""The envelope survives the wire, and everything that is wrong with one has a name and a remedy."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.envelope import MAX_SEQUENCE, Envelope, EnvelopeError, from_record, to_headers

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENVELOPE = Envelope(
    id="orders/worten-pt/W-58213377-A/00000000000000000003",
    source="/order-ingestor",
    type="order.changed.v1",
    time=datetime(2026, 3, 1, 9, 30, 0, 123000, tzinfo=UTC),
    subject="worten-pt/W-58213377-A",
    sequence=3,
    dataschema="urn:sfcc-mirakl-bridge:schema:order.changed.v1",
    traceparent=TRACEPARENT,
    tracestate="vendor=1",
)
VALUE = b'{"a":1}'


def with_header(name: str, value: bytes) -> list[tuple[str, bytes]]:
    return [*((at, old) for at, old in to_headers(ENVELOPE) if at != name), (name, value)]


def without_header(name: str) -> list[tuple[str, bytes]]:
    return [(at, old) for at, old in to_headers(ENVELOPE) if at != name]


def refusal(headers: list[tuple[str, bytes]], value: bytes | None = VALUE) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as raised:
        from_record(headers, value)
    return raised.value


def test_binary_mode_writes_the_headers_of_the_kafka_binding() -> None:
    assert dict(to_headers(ENVELOPE)) == {
        "ce_specversion": b"1.0",
        "ce_type": b"order.changed.v1",
        "ce_source": b"/order-ingestor",
        "ce_id": b"orders/worten-pt/W-58213377-A/00000000000000000003",
        "ce_time": b"2026-03-01T09:30:00.123000Z",
        "ce_subject": b"worten-pt/W-58213377-A",
        "ce_sequence": b"00000000000000000003",
        "ce_dataschema": b"urn:sfcc-mirakl-bridge:schema:order.changed.v1",
        "content-type": b"application/json",
        "traceparent": TRACEPARENT.encode(),
        "tracestate": b"vendor=1",
    }


def test_an_envelope_comes_back_as_it_was_written() -> None:
    assert from_record(to_headers(ENVELOPE), VALUE) == (ENVELOPE, VALUE)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100)


@given(
    st.builds(
        Envelope,
        id=texts,
        source=texts,
        type=texts,
        time=st.datetimes(timezones=st.just(UTC)),
        subject=st.none() | texts,
        sequence=st.integers(0, MAX_SEQUENCE),
        dataschema=st.none() | texts,
        traceparent=st.none() | st.just(TRACEPARENT),
        tracestate=st.none(),
    )
)
def test_any_envelope_that_can_be_written_can_be_read(envelope: Envelope) -> None:
    assert from_record(to_headers(envelope), VALUE) == (envelope, VALUE)


def test_what_is_optional_is_left_out_and_read_as_none() -> None:
    bare = msgspec.structs.replace(ENVELOPE, subject=None, dataschema=None, traceparent=None, tracestate=None)
    headers = to_headers(bare)
    assert {name for name, _ in headers} == {
        *("ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time", "ce_sequence", "content-type")
    }
    assert from_record(headers, VALUE)[0] == bare


@pytest.mark.parametrize(
    ("time", "words"),
    [(datetime(2026, 3, 1), "not UTC"), (datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=1))), "not UTC")],
)
def test_only_utc_is_written(time: datetime, words: str) -> None:
    with pytest.raises(EnvelopeError, match=words) as raised:
        to_headers(msgspec.structs.replace(ENVELOPE, time=time))
    assert raised.value.field == "ce_time"


@pytest.mark.parametrize("sequence", [-1, MAX_SEQUENCE + 1])
def test_a_sequence_that_no_row_can_keep_is_not_written(sequence: int) -> None:
    with pytest.raises(EnvelopeError, match=str(sequence)):
        to_headers(msgspec.structs.replace(ENVELOPE, sequence=sequence))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T09:30:00Z", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01T10:30:00+01:00", datetime(2026, 3, 1, 9, 30, tzinfo=UTC)),
        ("2026-03-01T09:30:00.123456789Z", datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)),
    ],
)
def test_times_of_other_producers_are_read_as_utc(text: str, moment: datetime) -> None:
    time = from_record(with_header("ce_time", text.encode()), VALUE)[0].time
    assert time == moment
    assert time.tzinfo is UTC


@dataclass(frozen=True, slots=True)
class Wrong:
    name: str
    headers: Callable[[], list[tuple[str, bytes]]]
    rule: str
    field: str
    words: str


WRONG = [
    *(
        Wrong(f"no {name}", lambda name=name: without_header(name), "missing-header", name, f"{name} is missing")  # type: ignore[misc]
        for name in ("ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion")
    ),
    Wrong("no headers", list, "missing-header", "ce_specversion", "no CloudEvent"),
    Wrong("no sequence", lambda: without_header("ce_sequence"), "missing-sequence", "ce_sequence", "20 digits"),
    Wrong(
        "old version",
        lambda: with_header("ce_specversion", b"0.3"),
        "unsupported-specversion",
        "ce_specversion",
        "send 1.0",
    ),
    Wrong("empty id", lambda: with_header("ce_id", b""), "invalid-header", "ce_id", "empty"),
    Wrong("oversize id", lambda: with_header("ce_id", b"x" * 1025), "invalid-header", "ce_id", "1025 bytes"),
    Wrong("NUL in the id", lambda: with_header("ce_id", b"a\0b"), "invalid-header", "ce_id", "NUL"),
    Wrong("id not UTF-8", lambda: with_header("ce_id", b"\xff\xfe"), "invalid-header", "ce_id", "not UTF-8"),
    Wrong("subject not UTF-8", lambda: with_header("ce_subject", b"\xc3"), "invalid-header", "ce_subject", "not UTF-8"),
    Wrong("long subject", lambda: with_header("ce_subject", b"x" * 513), "invalid-header", "ce_subject", "513 bytes"),
    Wrong("long source", lambda: with_header("ce_source", b"x" * 513), "invalid-header", "ce_source", "513 bytes"),
    Wrong("long type", lambda: with_header("ce_type", b"x" * 256), "invalid-header", "ce_type", "256 bytes"),
    Wrong(
        "naive time", lambda: with_header("ce_time", b"2026-03-01T09:30:00"), "invalid-header", "ce_time", "has no zone"
    ),
    Wrong(
        "no time at all",
        lambda: with_header("ce_time", b"yesterday"),
        "invalid-header",
        "ce_time",
        "'yesterday' is no time",
    ),
    Wrong(
        "before the calendar",
        lambda: with_header("ce_time", b"0001-01-01T00:00:00+14:00"),
        "invalid-header",
        "ce_time",
        "no time",
    ),
    Wrong(
        "short sequence", lambda: with_header("ce_sequence", b"3"), "invalid-header", "ce_sequence", "padded with zeros"
    ),
    Wrong(
        "signed sequence",
        lambda: with_header("ce_sequence", b"-0000000000000000003"),
        "invalid-header",
        "ce_sequence",
        "20 digits",
    ),
    Wrong(
        "sequence beyond bigint",
        lambda: with_header("ce_sequence", b"9" * 20),
        "invalid-header",
        "ce_sequence",
        "at most",
    ),
    Wrong("two ids", lambda: [*to_headers(ENVELOPE), ("ce_id", b"other")], "duplicate-header", "ce_id", "twice"),
    Wrong(
        "not JSON",
        lambda: with_header("content-type", b"application/avro"),
        "invalid-header",
        "content-type",
        "not JSON",
    ),
    Wrong(
        "a batch",
        lambda: [("content-type", b"application/cloudevents-batch+json")],
        "invalid-structured",
        "content-type",
        "one event per record",
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_what_is_wrong_is_named_with_its_place_and_remedy(wrong: Wrong) -> None:
    error = refusal(wrong.headers())
    assert (error.rule, error.field) == (wrong.rule, wrong.field)
    assert wrong.words in str(error) or all(word in str(error) for word in wrong.words.split())


def test_a_tombstone_is_refused_because_no_topic_is_compacted() -> None:
    error = refusal(to_headers(ENVELOPE), None)
    assert (error.rule, error.field) == ("missing-value", "value")


def test_headers_of_others_may_repeat() -> None:
    headers = [*to_headers(ENVELOPE), ("x-hop", b"1"), ("x-hop", b"2")]
    assert from_record(headers, VALUE)[0] == ENVELOPE


@pytest.mark.parametrize(
    "content_type", [b"application/json; charset=utf-8", b"Application/JSON", b"application/vnd.acme+json"]
)
def test_every_kind_of_json_is_taken(content_type: bytes) -> None:
    assert from_record(with_header("content-type", content_type), VALUE)[0] == ENVELOPE


def test_a_producer_without_content_type_is_taken_for_json() -> None:
    assert from_record(without_header("content-type"), VALUE)[0] == ENVELOPE


@pytest.mark.parametrize(
    "traceparent",
    [
        b"",
        b"rubbish",
        b"\xff",
        b"ff" + TRACEPARENT[2:].encode(),
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        TRACEPARENT.upper().encode(),
    ],
)
def test_a_trace_is_never_worth_a_record(traceparent: bytes) -> None:
    envelope, _ = from_record(with_header("traceparent", traceparent), VALUE)
    assert (envelope.traceparent, envelope.tracestate) == (None, None)
    assert envelope.id == ENVELOPE.id


def test_a_malformed_tracestate_is_dropped_alone() -> None:
    envelope, _ = from_record(with_header("tracestate", b"\x01"), VALUE)
    assert (envelope.traceparent, envelope.tracestate) == (TRACEPARENT, None)


STRUCTURED = {
    "specversion": "1.0",
    "id": ENVELOPE.id,
    "source": ENVELOPE.source,
    "type": ENVELOPE.type,
    "time": "2026-03-01T09:30:00.123Z",
    "subject": ENVELOPE.subject,
    "sequence": "00000000000000000003",
    "dataschema": ENVELOPE.dataschema,
    "datacontenttype": "application/json",
    "traceparent": TRACEPARENT,
    "tracestate": "vendor=1",
    "someextension": "ignored",
    "data": {"ats": "12.50"},
}
STRUCTURED_HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def structured(**changes: object) -> bytes:
    event = STRUCTURED | changes
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


def test_structured_mode_gives_the_same_envelope() -> None:
    envelope, value = from_record(STRUCTURED_HEADERS, structured())
    assert envelope == ENVELOPE
    assert json.loads(value) == {"ats": "12.50"}


def test_structured_data_keeps_the_digits_of_its_sender() -> None:
    record = structured(data=...)[:-1] + b', "data": {"ats": 12.50}}'
    assert from_record(STRUCTURED_HEADERS, record)[1] == b'{"ats": 12.50}'


def test_structured_data_may_be_base64() -> None:
    record = structured(data=..., data_base64=base64.b64encode(VALUE).decode())
    assert from_record(STRUCTURED_HEADERS, record)[1] == VALUE


def test_the_records_own_trace_counts_when_the_event_carries_none() -> None:
    headers = [*STRUCTURED_HEADERS, ("traceparent", TRACEPARENT.encode())]
    assert from_record(headers, structured(traceparent=..., tracestate=...))[0].traceparent == TRACEPARENT


@pytest.mark.parametrize(
    ("record", "rule", "field"),
    [
        (b"", "invalid-structured", "$"),
        (b"[]", "invalid-structured", "$"),
        (b'{"id": "\xff"}', "invalid-structured", "$"),
        (b'{"x":' + b"[" * 100_000, "invalid-structured", "$"),
        (structured(id=7), "invalid-structured", "$.id"),
        (structured(sequence=3), "invalid-structured", "$.sequence"),
        (structured(data=...), "invalid-structured", "$.data"),
        (structured(data_base64="e30="), "invalid-structured", "$.data_base64"),
        (structured(data=..., data_base64="***"), "invalid-structured", "$.data_base64"),
        (structured(datacontenttype="text/xml"), "invalid-structured", "$.datacontenttype"),
        (structured(specversion=...), "missing-header", "$.specversion"),
        (structured(specversion="0.3"), "unsupported-specversion", "$.specversion"),
        (structured(sequence=...), "missing-sequence", "$.sequence"),
        (structured(id=...), "missing-header", "$.id"),
        (structured(id="a\0b"), "invalid-header", "$.id"),
        (structured(time="2026-03-01T09:30:00"), "invalid-header", "$.time"),
    ],
)
def test_what_is_wrong_in_structured_mode_is_named_by_its_path(record: bytes, rule: str, field: str) -> None:
    error = refusal(STRUCTURED_HEADERS, record)
    assert (error.rule, error.field) == (rule, field)


@given(
    st.lists(st.tuples(st.sampled_from([name for name, _ in to_headers(ENVELOPE)]), st.binary(max_size=40))),
    st.binary(),
)
def test_no_headers_and_no_bytes_raise_anything_else(headers: list[tuple[str, bytes]], value: bytes) -> None:
    try:
        from_record(headers, value)
        from_record(STRUCTURED_HEADERS, value)
    except EnvelopeError:
        pass  # Named; anything else fails the test.
