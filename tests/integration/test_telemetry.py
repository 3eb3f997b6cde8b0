"""A trace continues over consume, publish and consume; logs carry ids and nobody's data."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from shared import gauges, telemetry
from shared.errors import Permanent
from shared.events.stock import StockLevelReported
from shared.handlers import Handlers, Received, react
from shared.outbox import Transaction
from shared.telemetry import LOG_FIELDS, Metrics, Readings, is_sampled, new_traceparent
from tests.kit.flow import level, record_parts
from tests.kit.world import World


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Every span of this test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def say_traced(world: World, key: str, n: int, traceparent: str) -> None:
    topic, key, value, headers = record_parts(level(key, n), n)
    world.kafka.append(topic, key, value, [*headers, ("traceparent", traceparent.encode())])


async def test_a_sampled_trace_continues_from_consume_to_publish_to_consume(
    world: World, spans: InMemorySpanExporter
) -> None:
    root = new_traceparent(sampled=True)
    say_traced(world, "A", 1, root)
    await world.member().to_end()
    await world.relay_all()
    await world.follower().to_end()
    first, second = spans.get_finished_spans()
    _, trace_id, span_id, _ = root.split("-")
    assert first.context is not None and second.context is not None
    assert {f"{s.context.trace_id:032x}" for s in (first, second) if s.context} == {trace_id}
    assert f"{parent_of(first):016x}" == span_id
    assert parent_of(second) == first.context.span_id
    assert (first.name, second.name) == ("process stock-levels", "process mappings")
    assert first.kind == SpanKind.CONSUMER
    assert first.attributes is not None
    assert first.attributes["messaging.system"] == "kafka"
    assert first.attributes["messaging.consumer.group.name"] == "forwarder"
    assert first.attributes["messaging.message.id"] == "stock-levels/A/1"


async def test_a_trace_that_is_not_sampled_costs_no_span_and_still_travels(
    world: World, spans: InMemorySpanExporter
) -> None:
    root = new_traceparent(sampled=False)
    say_traced(world, "A", 1, root)
    await world.member().to_end()
    await world.relay_all()
    await world.follower().to_end()
    assert spans.get_finished_spans() == ()
    (record,) = world.kafka.everything("mappings")
    assert dict(record.headers)["traceparent"].decode() == root


async def test_a_span_lasts_as_long_as_its_batch_and_tells_an_error_by_its_type_alone(
    world: World, spans: InMemorySpanExporter
) -> None:
    async def fail(received: Received[StockLevelReported], tx: Transaction) -> None:
        raise Permanent("Jane Doe is not welcome", rule="refused")

    say_traced(world, "A", 1, new_traceparent(sampled=True))
    await world.member(Handlers(react(StockLevelReported, fail))).to_end()
    (span,) = spans.get_finished_spans()
    assert span.status.status_code == StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "Permanent"
    assert "Jane" not in span.to_json()


def test_what_begins_a_trace_is_sampled_by_its_topic() -> None:
    assert all(is_sampled(new_traceparent("orders")) for _ in range(100))
    share = sum(is_sampled(new_traceparent("stock-levels")) for _ in range(20_000)) / 20_000
    assert 0.003 < share < 0.03
    assert not is_sampled(None)


async def test_every_metric_of_the_mechanism_is_counted_and_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    for name, instrument in list(vars(Metrics).items()):
        if not name.startswith("_"):
            kind = type(instrument).__name__
            make = (
                meter.create_histogram
                if "Histogram" in kind
                else meter.create_gauge
                if "Gauge" in kind
                else meter.create_counter
            )
            monkeypatch.setattr(Metrics, name, make(f"test.{name}"))
    world.say("A", 1, 1)
    world.kafka.append("stock-levels", "A", None)
    world.kafka.append("stock-levels", "A", b"{")
    await world.member().to_end()
    outcomes = iter(("lose",))
    relay = world.relay(outcome=lambda p, c: next(outcomes, "acknowledge"))
    await world.relay_all(relay)
    await world.database.execute(
        """INSERT INTO cases (case_id, code, about, severity, opened, opened_at)
           VALUES ('a', 'obligation-unknown', 'order/a', 'high', '{}', clock_timestamp())"""
    )
    await world.database.execute("UPDATE bridge.clock SET real = clock_timestamp(), business = $1", world.clock.at)
    await world.database.execute("INSERT INTO bridge.stopped_consumers VALUES ('another_service', 'follower')")
    await gauges.measure(world.database)
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        metric.name.removeprefix("test."): sum(getattr(p, "value", 0) for p in metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    for name, value in {
        "consumed": 1,
        "duplicates": 1,
        "skipped": 1,
        "dead_letters": 1,
        "recent_dead_letters": 1,
        "sent": 1,
        "unknown_sends": 1,
        "outbox_pending": 1,
        "stuck_buckets": 1,
        "stops": 1,
        "open_cases": 1,
        "breakers": 0,
    }.items():
        assert found[name] == value, (name, found)


async def test_a_dead_letter_is_told_for_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    gauge = MeterProvider([reader]).get_meter("test").create_gauge("test.letters")
    monkeypatch.setattr(Metrics, "recent_dead_letters", gauge)
    world.kafka.append("stock-levels", "A", b"{")
    await world.member().to_end()
    told, values = Readings(), []
    for minutes in (55, 65):
        await world.database.execute(
            "UPDATE bridge.clock SET real = clock_timestamp(), business = $1",
            world.clock.at + timedelta(minutes=minutes),
        )
        await gauges.measure(world.database, told)
        data = reader.get_metrics_data()
        assert data is not None
        (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        values.append(getattr(point, "value", None))
    assert values == [1, 0]


def test_a_reading_whose_row_is_gone_falls_to_nothing() -> None:
    reader = InMemoryMetricReader()
    gauge = MeterProvider([reader]).get_meter("test").create_gauge("test.keys")
    told = Readings()
    told.set(gauge, [(3, {"rule": "a"}), (2, {"rule": "b"})])
    told.set(gauge, [(5, {"rule": "c"})], within="another part")
    told.set(gauge, [(1, {"rule": "b"})])
    data = reader.get_metrics_data()
    assert data is not None
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    values = {str((point.attributes or {})["rule"]): getattr(point, "value", None) for point in points}
    assert values == {"a": 0, "b": 1, "c": 5}


LOGGING = """
import logging, structlog
from shared.errors import Permanent
from shared.telemetry import set_up_logs
set_up_logs("acceptor", "acceptor-1")
log = structlog.get_logger("shared.consumer")
log.info("order_read", event_id="orders/1", customer_name="Jane Doe", street="1 High Street")
log.info("mailed", reason="sent to jane.doe@example.com and back")
try:
    raise ValueError("Jane Doe")
except ValueError as error:
    log.error("unexpected_error", exc_info=error)
try:
    raise Permanent("the total is not the sum: correct it", rule="sum")
except Permanent:
    log.exception("refused")
logging.getLogger("aiohttp").warning("from %s", "jane@example.com")
try:
    raise KeyError("Jane Doe")
except KeyError:
    logging.getLogger("aiohttp").exception("in a library")
log.debug("not at this level")
"""


def test_logs_are_json_lines_with_listed_fields_and_without_personal_data() -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == [
        "order_read", "mailed", "unexpected_error", "refused", "from ***", "in a library",
    ]  # fmt: skip
    for text in ("Jane", "High Street", "@"):
        assert text not in done.stdout
    for line in lines:
        assert set(line) <= LOG_FIELDS
        assert (line["service"], line["instance"]) == ("acceptor", "acceptor-1")
    assert lines[0]["field_names"] == "not on the list of log fields: customer_name, street"
    assert (lines[2]["error"], "reason" in lines[2]) == ("ValueError", False)
    assert lines[3]["reason"] == "the total is not the sum: correct it", "our own texts name no person"
    assert lines[5]["error"] == "KeyError"


async def test_gauges_measure_on_while_postgresql_answers_and_beat_all_the_same(world: World) -> None:
    beats: list[int] = []
    stop = asyncio.Event()
    from shared.kafka import Address

    def beat() -> None:
        beats.append(1)
        stop.set()

    async with asyncio.timeout(5):
        await gauges.run(world.database, [], Address("127.0.0.1:1"), beat, stop)
    assert beats
