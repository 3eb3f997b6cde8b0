"""Events become rows on real PostgreSQL, whatever order they come in and however often."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from services.control_room import queries
from services.control_room.figures import NOTHING_DUE_SECONDS, readings
from services.control_room.projections import handlers
from services.control_room.views import sentence
from shared.consumer import Consumer
from shared.database import Database, Rows
from shared.events.finance import LedgerEntryPosted, Posting
from shared.events.orders import OrderCaptured, OrderChanged, OrderCreatedInSfcc, OrderLinked
from shared.handlers import Handlers, Projector, Received, project_batch
from shared.kafka import Partition
from shared.outbox import Outbox
from shared.telemetry import Metrics
from shared.topics import CONTROL_ROOM, TOPICS
from tests.kit.flow import NOW, FixedClock, record_parts
from tests.kit.pages import TABLES, Teller, captured, day, empty, euro, offer, project, received, sell
from tests.kit.scripted import ScriptedConsumer, ScriptedKafka
from tests.kit.world import Member


async def everything(database: Database) -> Mapping[str, Sequence[tuple[Any, ...]]]:
    """All rows of all tables, sorted."""
    found = {}
    for table in TABLES:
        rows = await database.fetch(f"SELECT * FROM {table}")
        found[table] = sorted((tuple(row.values()) for row in rows), key=repr)
    return found


async def apply(database: Database, events: Sequence[Received[Any]]) -> None:
    async with database.transaction() as rows:
        await project(rows, events)


def test_every_topic_that_the_control_room_reads_has_a_projector_for_each_of_its_events() -> None:
    routes = handlers().routes
    wanted = {event.TYPE for topic in TOPICS if CONTROL_ROOM in topic.readers for event in topic.events}

    assert wanted - routes.keys() == set()
    assert all(isinstance(route.handler, Projector) and route.guard == "state" for route in routes.values())


async def test_a_day_read_twice_makes_the_same_rows_as_once(database: Database) -> None:
    events = day(orders=15)
    await apply(database, events)
    once = await everything(database)

    await apply(database, events)

    assert await everything(database) == once
    assert all(once.values()), [table for table, rows in once.items() if not rows]


async def test_topics_that_are_read_at_different_speeds_make_the_same_rows(database: Database) -> None:
    """Per key and topic order holds; between topics anything may come first."""
    events = day(orders=15)
    topics = sorted({one.topic for one in events})
    seen = []
    for seed in (1, 2):
        random.Random(seed).shuffle(topics)
        await apply(database, [one for topic in topics for one in events if one.topic == topic])
        seen.append(await everything(database))
        await empty(database)

    assert seen[0] == seen[1]


async def test_orders_and_cases_do_not_mind_any_order_at_all(database: Database) -> None:
    events = [one for one in day(orders=8) if one.topic in ("orders", "order-decisions", "cases", "shipment-notices")]
    await apply(database, events)
    expected = await everything(database)
    await empty(database)

    random.Random(3).shuffle(events)
    await apply(database, events)

    assert await everything(database) == expected


async def test_a_batch_with_many_events_of_one_key_is_applied_as_a_whole(database: Database) -> None:
    teller = Teller.new()
    for n in range(5):
        offer(teller, "LAMP", "P1", n, "computed", NOW + timedelta(minutes=n))
    computed = [one for one in teller.told if one.event.TYPE == "offer-stock.computed.v1"]
    handler = handlers().routes["offer-stock.computed.v1"].handler

    async with database.transaction() as rows:
        await handler.apply([*computed[3:], *computed[:3]], rows)  # type: ignore[arg-type]

    assert await database.fetchval("SELECT quantity FROM room_offers") == 4


async def test_neighbours_of_types_that_share_a_handler_reach_it_as_one_batch(database: Database) -> None:
    teller = Teller.new()
    sell(teller, captured("W-1-A", NOW), "created")
    kafka, batches = ScriptedKafka(), []

    async def keep(events: Sequence[Received[Any]], rows: Rows) -> None:
        batches.append([one.event.TYPE for one in events])

    for one in teller.told:
        if one.topic == "orders":
            topic, key, value, headers = record_parts(one.event, one.envelope.sequence)
            kafka.append(topic, key, value, headers)
    types = (OrderCaptured, OrderChanged, OrderCreatedInSfcc, OrderLinked)
    client = ScriptedConsumer(kafka)
    consumer = Consumer(
        "together",
        "test",
        Handlers(*(project_batch(event, keep, "state") for event in types)),
        Outbox(database, "control-room", FixedClock()),
        lambda: client,
    )

    await Member(consumer, client, (Partition("orders", 0),)).to_end()

    assert batches == [[event.TYPE for event in types]]


async def test_an_older_stock_event_that_a_relay_repeats_changes_nothing(database: Database) -> None:
    teller = Teller.new()
    offer(teller, "LAMP", "P1", 7, "confirmed", NOW)
    await apply(database, teller.told)
    before = await everything(database)

    await apply(database, teller.told[:-1])

    assert await everything(database) == before
    row = await queries.offer(database, "worten-pt", "2034", "LAMP")
    assert row is not None
    assert (row["stock_state"], row["shown"], row["import_id"]) == ("confirmed", 7, "48213")


async def test_an_entry_leaves_suspense_when_it_is_reversed_whichever_is_read_first(database: Database) -> None:
    def entry(entry_id: str, *, suspense: bool = False, reverses: str | None = None) -> LedgerEntryPosted:
        postings = (
            Posting(account="suspense", side="debit", amount=euro("5.00")),
            Posting(account="marketplace-receivable", side="credit", amount=euro("5.00")),
        )
        return LedgerEntryPosted(
            entry_id=entry_id,
            marketplace="m",
            shop="1",
            transaction_type="NEW_FEE",
            billing_cycle="c",
            postings=postings,
            suspense=suspense,
            reverses=reverses,
            booked_at=NOW,
        )

    first, second = received(entry("a", suspense=True), 1), received(entry("b", reverses="a"), 2)
    other = received(entry("c", suspense=True), 3)

    await apply(database, [second, first, other])

    assert [row["entry_id"] for row in (await queries.suspense(database, 1)).rows] == ["c"]


async def test_the_glance_counts_what_the_day_left(database: Database) -> None:
    teller = Teller.new()
    for n, until in enumerate(("captured", "accepted", "created", "held", "shipped", "paid")):
        sell(teller, captured(f"W-{n}-A", NOW - timedelta(hours=5)), until)
    offer(teller, "LAMP", "P1", 3, "confirmed", NOW - timedelta(minutes=5))
    offer(teller, "RUG", None, 3, "submitted", NOW - timedelta(minutes=2))
    await apply(database, teller.told)

    found = await queries.glance(database, NOW)

    assert found["orders_by_stage"] == {"answer": 1, "create": 1, "ship": 2, "money": 1, "paid": 1}
    assert found["stock"] == {"confirmed": 1, "submitted": 1}
    assert (found["parcels_held"], found["offers_unmapped"], found["captured"]) == (1, 1, 6)
    assert found["fresh_p50"] == 41.0
    assert found["oldest_unconfirmed"] == NOW - timedelta(minutes=2)
    assert sum(found["hours"]) == 6
    told = {(gauge, *about.values()): value for gauge, value, about in readings(found, NOW)}
    assert told[Metrics.orders, "ship"] == 2
    assert told[Metrics.orders, "payment"] == 0
    assert told[Metrics.next_deadline,] == timedelta(hours=19).total_seconds()
    assert told[Metrics.money_at_risk, "EUR"] == 39.98
    assert told[Metrics.freshness, "0.95"] == 41.0
    assert told[Metrics.unconfirmed_age,] == 120


async def test_the_figures_of_a_room_without_anything_are_no_alarm(database: Database) -> None:
    found = await queries.glance(database, NOW)

    told = {gauge: value for gauge, value, _ in readings(found, NOW)}

    assert told[Metrics.next_deadline] == NOTHING_DUE_SECONDS
    assert Metrics.freshness not in told
    assert set(told.values()) == {0, NOTHING_DUE_SECONDS}


def test_every_event_of_a_timeline_has_a_sentence_of_its_own() -> None:
    told = {type(one.event).__name__: sentence(one.event) for one in day(orders=15)}
    silent = [name for name, said in told.items() if said.stage == "other"]

    assert set(silent) <= {name for name in silent if name.startswith(("Offer", "Product", "Payout", "RecordDead"))}
