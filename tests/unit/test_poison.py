"""Whatever bytes a record has, it is read, skipped, queued or buried: nothing it holds can stop a consumer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.codec import encode
from shared.consumer import Consumer, verdict_of
from shared.dead_letters import DeadLetter, Limits, told_of
from shared.errors import Permanent
from shared.parking import StoredRecord
from tests.kit.flow import NOW, forwarder, level, record_parts

TOPIC, KEY, VALUE, HEADERS = record_parts(level("A", 1), 1)
READER = Consumer("forwarder", "test", forwarder(), cast(Any, None), cast(Any, None))

junk = st.binary(max_size=40)
names = st.sampled_from([name for name, _ in HEADERS]) | st.text(max_size=12)
headers = st.one_of(
    st.lists(st.tuples(names, junk), max_size=8),
    st.lists(st.tuples(names, junk), min_size=1, max_size=3).map(
        lambda changes: [(name, dict(changes).get(name, value)) for name, value in HEADERS]
    ),
)
values = st.one_of(
    junk.filter(bool),
    st.tuples(st.integers(0, len(VALUE) - 1), junk).map(lambda at: VALUE[: at[0]] + at[1] + VALUE[at[0] + 1 :]),
    st.recursive(st.none() | st.floats() | st.text(), st.lists, max_leaves=5).map(lambda x: repr(x).encode()),
)
keys = st.none() | junk | st.just(KEY.encode())


@settings(max_examples=400, deadline=None)
@given(headers, values, keys)
def test_any_bytes_are_read_or_buried_with_a_letter_that_can_be_published(
    found: list[tuple[str, bytes]], value: bytes, key: bytes | None
) -> None:
    record = StoredRecord(TOPIC, 0, 7, key, value, found, 0)
    try:
        READER._read(record, NOW + timedelta(days=1))
    except Permanent as error:
        letter = DeadLetter.of(record, error)
        assert "\x00" not in letter.reason + letter.field + letter.event_id + letter.event_type
        encode(told_of("forwarder", letter, "0" * 64, NOW))


@given(st.text(max_size=5_000), st.text(max_size=100), st.text(max_size=600))
def test_whatever_a_service_says_of_a_record_can_be_published(reason: str, rule: str, field: str) -> None:
    record = StoredRecord(TOPIC, 0, 7, b"A", b"{}", HEADERS, 0)
    letter = verdict_of(record, Permanent(reason, rule=rule, field=field))
    assert isinstance(letter, DeadLetter)
    encode(told_of("forwarder", letter, "0" * 64, NOW))


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 6))
def test_limits_count_the_same_in_one_batch_as_in_many(outcomes: list[bool], size: int) -> None:
    def reason_of(batches: list[list[bool]]) -> str | None:
        limits = Limits(consecutive=4, ratio=0.5, window=10)
        return next((reason for batch in batches if (reason := limits.exceeded_by(batch))), None)

    parts = [outcomes[n : n + size] for n in range(0, len(outcomes), size)]
    assert reason_of(parts) == reason_of([outcomes])
