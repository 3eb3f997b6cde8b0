"""What becomes of each kind of record: applied, skipped, dropped, queued, buried."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import pytest

from shared import inbox
from shared.codec import encode
from shared.database import Conflict, Rows
from shared.errors import Permanent
from shared.events.control import MappingSet
from shared.events.stock import StockLevelReported
from shared.handlers import Handlers, Received, project, react, react_batch
from shared.outbox import Transaction
from shared.topics import topic_of
from tests.kit.flow import NOW, batch_forwarder, count_and_forward, follower, level, mapping, record_parts
from tests.kit.world import MAPPINGS, World


async def test_a_batch_is_one_transaction(world: World) -> None:
    transactions: set[int] = set()

    async def note(received: Received[StockLevelReported], tx: Transaction) -> None:
        transactions.add(await tx.fetchval("SELECT pg_current_xact_id()::text::bigint"))
        await count_and_forward(received, tx)

    world.say("A", *range(1, 41))
    await world.member(Handlers(react(StockLevelReported, note))).to_end()
    assert len(transactions) == 1
    assert (await world.applied())["A"] == list(range(1, 41))


async def test_a_batch_handler_is_given_the_whole_batch_in_order(world: World) -> None:
    sizes: list[int] = []

    async def fold(events: Sequence[Received[StockLevelReported]], tx: Transaction) -> None:
        sizes.append(len(events))
        assert [e.offset for e in events] == sorted(e.offset for e in events)

    world.say("A", 1, 2, 3)
    world.say("B", 1)
    await world.member(Handlers(react_batch(StockLevelReported, fold))).to_end()
    assert sizes == [4]


async def test_an_id_is_applied_once_however_often_it_comes(world: World) -> None:
    world.say("A", 1, 1, 2)
    world.say("A", 2, 1)
    member = world.member(batch_forwarder())
    await member.to_end()
    world.say("A", 1, 3)
    again = world.member(batch_forwarder())
    await again.to_end()
    assert await world.applied() == {"A": [1, 2, 3]}
    assert (member.consumer.counts.duplicates, again.consumer.counts.duplicates) == (3, 1)


async def test_the_same_id_from_another_source_is_another_event(world: World) -> None:
    world.say("A", 1, source="/erp")
    world.say("A", 1, source="/wms")
    await world.member().to_end()
    assert await world.applied() == {"A": [1, 1]}


async def test_an_id_that_returns_after_midnight_is_still_known(world: World) -> None:
    late = NOW.replace(hour=23, minute=59)
    world.clock.at = late
    world.say("A", 1, at=late)
    await world.member().to_end()
    world.clock.at = late + timedelta(minutes=2)
    world.say("A", 1, at=late)  # a relay that did not get its answer sends it again, on our next day
    world.say("A", 2, at=world.clock.at)
    await world.member().to_end()
    assert await world.applied() == {"A": [1, 2]}
    days = await world.database.fetch("SELECT day FROM inbox ORDER BY day")
    assert [row["day"] for row in days] == [late.date(), world.clock.at.date()]


async def test_a_day_that_housekeeping_dropped_is_made_anew_for_a_latecomer(world: World) -> None:
    old = NOW - timedelta(days=20)
    member = world.member()
    world.say("A", 1, at=old)
    await member.to_end()
    assert await inbox.drop_days(world.database, NOW.date() - timedelta(days=9)) == ["inbox_20261104"]
    world.say("A", 2, at=old)
    await member.to_end()
    assert await world.applied() == {"A": [1, 2]}
    assert await world.count("parked_keys") == 0


async def test_on_topics_kept_for_ever_the_newest_sequence_is_the_guard(world: World) -> None:
    for n in (1, 2, 3, 2, 3, 1, 4):
        world.put(mapping("A", n), n)
    reader = world.member(follower(), name="follower", partitions=MAPPINGS)
    await reader.to_end()
    for n in (3, 4, 5):
        world.put(mapping("A", n), n)
    again = world.member(follower(), name="follower", partitions=MAPPINGS)
    await again.to_end()
    assert await world.applied("follower") == {"A": [1, 2, 3, 4, 5]}
    assert await world.count("inbox") == 0, "a guard that may never be dropped is kept with the state"
    assert reader.consumer.counts.duplicates + again.consumer.counts.duplicates == 5


async def test_sequences_of_two_sources_are_counted_apart(world: World) -> None:
    world.put(mapping("A", 7), 7, source="/one")
    world.put(mapping("A", 1), 1, source="/other")
    await world.member(follower(), name="follower", partitions=MAPPINGS).to_end()
    assert await world.applied("follower") == {"A": [7, 1]}


async def test_state_guarded_by_its_own_version_claims_nothing(world: World) -> None:
    async def keep_newest(received: Received[StockLevelReported], rows: Rows) -> None:
        await rows.execute(
            """INSERT INTO counters AS c (key, version, last) VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE
               SET version = excluded.version, last = excluded.last WHERE c.version < excluded.version""",
            received.event.product_id,
            received.envelope.sequence,
            int(received.event.ats),
        )

    world.say("A", 1, 3, 2, 3)
    await world.member(Handlers(project(StockLevelReported, keep_newest, guard="state"))).to_end()
    assert (await world.row("SELECT last FROM counters"))["last"] == 3
    assert await world.count("inbox") == await world.count("applied_sequences") == 0


async def test_tombstones_and_empty_values_are_no_poison(world: World) -> None:
    world.kafka.append("stock-levels", "A", None)
    world.say("A", 1)
    world.kafka.append("stock-levels", "A", b"")
    world.kafka.append("stock-levels", None, None)
    member = world.member()
    await member.to_end()
    assert await world.applied() == {"A": [1]}
    assert (member.consumer.counts.skipped, member.consumer.counts.dead_letters) == (3, 0)


async def test_a_type_that_is_not_handled_is_skipped_without_a_look_at_its_value(world: World) -> None:
    topic, key, _, headers = record_parts(level("A", 1), 1)
    for stranger in (b"stock-level.rumoured.v1", b"anything.else.v7", b"nonsense"):
        changed = [(name, stranger if name == "ce_type" else text) for name, text in headers]
        world.kafka.append(topic, key, b"\xff not json", changed)
    world.say("A", 2)
    member = world.member()
    await member.to_end()
    assert await world.applied() == {"A": [2]}
    assert (member.consumer.counts.skipped, member.consumer.counts.dead_letters) == (3, 0)


async def test_an_unknown_version_of_a_handled_type_parks_its_key_and_goes_on_when_the_new_code_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StockLevelReportedAnew(StockLevelReported, frozen=True, kw_only=True):
        TYPE = "stock-level.reported.v2"

    world.say("A", 1)
    topic, key, value, headers = record_parts(level("A", 2), 2)
    world.kafka.append(
        topic, key, value, [(n, b"stock-level.reported.v2" if n == "ce_type" else v) for n, v in headers]
    )
    world.say("A", 3)
    world.say("B", 1)
    member = world.member()
    await member.to_end()
    await world.retry_now()
    await member.to_end()  # The old code tries again and still does not know it.
    assert await world.applied() == {"A": [1], "B": [1]}
    row = await world.row("SELECT rule, reason FROM parked_keys")
    assert row["rule"] == "unknown-version"
    assert "deploy the code that knows it" in row["reason"]
    assert await world.count("parked_records") == 2

    import shared.codec
    import shared.topics

    types = dict(shared.topics.EVENT_TYPES) | {StockLevelReportedAnew.TYPE: StockLevelReportedAnew}
    monkeypatch.setattr(shared.codec, "EVENT_TYPES", types)
    by_event = dict(shared.topics._BY_EVENT) | {StockLevelReportedAnew: topic_of(StockLevelReported)}
    monkeypatch.setattr(shared.topics, "_BY_EVENT", by_event)
    await world.retry_now()
    new_code = world.member(
        Handlers(react(StockLevelReported, count_and_forward), react(StockLevelReportedAnew, count_and_forward))
    )
    await new_code.until(lambda: not new_code.consumer._parked and new_code.at_end())
    assert await world.applied() == {"A": [1, 2, 3], "B": [1]}
    assert await world.count("parked_keys") == 0


async def test_bisection_finds_the_one_record_to_blame(world: World) -> None:
    calls: list[int] = []

    async def refuse_seventeen(events: Sequence[Received[StockLevelReported]], tx: Transaction) -> None:
        calls.append(len(events))
        if any(e.event.ats == 17 for e in events):
            raise Permanent("seventeen is not for us", rule="not-seventeen", field="$.ats")
        for e in events:
            await count_and_forward(e, tx)

    for n in range(1, 101):
        world.say(f"K{n % 5}", n)
    member = world.member(Handlers(react_batch(StockLevelReported, refuse_seventeen)))
    await member.to_end()
    got = await world.applied()
    assert sorted(n for numbers in got.values() for n in numbers) == [n for n in range(1, 101) if n != 17]
    assert all(numbers == sorted(numbers) for numbers in got.values())
    letter = await world.row('SELECT rule, field, "offset" FROM dead_letters')
    assert (letter["rule"], letter["field"], letter["offset"]) == ("not-seventeen", "$.ats", 16)
    assert len(calls) <= 2 * 8, "halved, not tried one by one"


async def test_conflicts_are_repeated_and_never_bisected(world: World) -> None:
    sizes: list[int] = []

    async def conflict_twice(events: Sequence[Received[StockLevelReported]], tx: Transaction) -> None:
        sizes.append(len(events))
        if len(sizes) <= 2:
            raise Conflict("SerializationError")
        for e in events:
            await count_and_forward(e, tx)

    world.say("A", *range(1, 11))
    await world.member(Handlers(react_batch(StockLevelReported, conflict_twice))).to_end()
    assert sizes == [10, 10, 10]
    assert await world.applied() == {"A": list(range(1, 11))}


async def test_a_foreign_record_without_a_sequence_is_a_dead_letter_that_says_so(world: World) -> None:
    topic, key, value, headers = record_parts(level("A", 1), 1)
    world.kafka.append(topic, key, value, [h for h in headers if h[0] != "ce_sequence"])
    await world.member().to_end()
    letter = await world.row("SELECT rule, field, reason FROM dead_letters")
    assert (letter["rule"], letter["field"]) == ("missing-sequence", "ce_sequence")
    assert "send the CloudEvents sequence extension" in letter["reason"]


async def test_a_foreign_mistake_is_a_dead_letter_that_names_the_field_and_the_rule(world: World) -> None:
    topic, key, value, headers = record_parts(level("A", 1), 1)
    payload = msgspec.json.decode(value)
    world.kafka.append(topic, key, msgspec.json.encode(payload | {"place_kind": "shelf"}), headers)
    world.kafka.append(topic, "B", value, headers)
    world.kafka.append(topic, None, value, headers)
    world.say("A", 2, at=NOW + timedelta(days=2))
    world.say("A", 3)
    await world.member().to_end()
    found = await world.database.fetch('SELECT rule, field FROM dead_letters ORDER BY "offset"')
    assert [(row["rule"], row["field"]) for row in found] == [
        ("invalid-value", "$.place_kind"),
        ("key-mismatch", "key"),
        ("key-mismatch", "key"),
        ("time-in-future", "ce_time"),
    ]
    assert await world.applied() == {"A": [3]}


async def test_an_event_less_than_a_day_ahead_is_somebody_elses_clock_and_is_taken(world: World) -> None:
    world.say("A", 1, at=NOW + timedelta(hours=23))
    await world.member().to_end()
    assert await world.applied() == {"A": [1]}


async def test_a_topic_that_outsiders_feed_takes_only_the_sources_that_are_set(world: World) -> None:
    world.say("A", 1, source="/erp")
    world.say("A", 2, source="/unknown")
    await world.member(sources={"stock-levels": frozenset({"/erp"})}).to_end()
    assert await world.applied() == {"A": [1]}
    letter = await world.row("SELECT rule, reason FROM dead_letters")
    assert letter["rule"] == "foreign-source"
    assert "allowed are /erp" in letter["reason"]


async def test_a_mistake_that_quotes_a_nul_character_is_buried_like_any_other(world: World) -> None:
    topic, key, value, headers = record_parts(level("A", 1), 1)
    world.kafka.append(topic, key, value.replace(b'"group"', rb'"gr\u0000oup"'), headers)
    world.say("A", 2)
    await world.member().to_end()
    assert await world.applied() == {"A": [2]}
    assert r"gr\x00oup" in (await world.row("SELECT reason FROM dead_letters"))["reason"]


async def test_a_mistake_of_one_record_harms_no_other_of_its_batch(world: World) -> None:
    world.say("A", 1)
    world.kafka.append("stock-levels", "A", b"{", [])
    world.say("A", 2)
    world.say("B", 1)
    member = world.member()
    await member.to_end()
    assert member.consumer.counts.batches == 1, "found while it was read, without a second transaction"
    assert await world.applied() == {"A": [1, 2], "B": [1]}


async def test_what_is_published_continues_the_version_and_the_trace_of_its_cause(world: World) -> None:
    world.say("A", 1, 2)
    await world.member().to_end()
    await world.relay_all()
    sent = [record for p in MAPPINGS for record in world.kafka.logs.get(p, [])]
    assert [dict(r.headers)["ce_sequence"] for r in sent] == [b"%020d" % 1, b"%020d" % 2]
    assert sent[0].value == encode(mapping("A", 1))
    assert MappingSet.TYPE.encode() == dict(sent[0].headers)["ce_type"]
