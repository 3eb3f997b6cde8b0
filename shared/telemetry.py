"""Telemetry: traces, metrics and logs, with our own instrumentation of Kafka (platform.md, decision 12).

Traces follow a record from stage to stage: the context travels in the `traceparent` header, and a stage
that handles a sampled record opens a span under it. Whether a trace is sampled is decided once, at its
root: every order, one in a hundred stock events. A record that is not sampled costs a look at one
character.

Logs are JSON lines with ids. A field leaves the process only if its name is on the list below, so that
nobody's address gets into a log by accident; what looks like an e-mail address is masked all the same.
"""

from __future__ import annotations

import logging
import random
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from shared.errors import BridgeError

TRACED: Final[Mapping[str, float]] = {"stock-levels": 0.01, "offer-stocks": 0.01}
"""The share of new traces that are sampled, per topic they begin on; all others: every one."""

_tracer = trace.get_tracer("sfcc-mirakl-bridge")
_meter = metrics.get_meter("sfcc-mirakl-bridge")
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Edges of duration histograms: those that come by default are made for milliseconds."""


class Metrics:
    """Every metric that we emit; the dashboards are checked against this list."""

    consumed = _meter.create_counter("messaging.client.consumed.messages", "{message}", "Records applied, by topic.")
    batch_seconds = _meter.create_histogram(
        "messaging.process.duration", "s", "Time to apply one batch.", explicit_bucket_boundaries_advisory=_SECONDS
    )
    duplicates = _meter.create_counter("bridge.inbox.duplicates", "{message}", "Records dropped as applied before.")
    skipped = _meter.create_counter("bridge.consumer.skipped", "{message}", "Records of types not handled here.")
    dead_letters = _meter.create_counter("bridge.dead_letters", "{message}", "Records that no retry can save.")
    recent_dead_letters = _meter.create_gauge("bridge.dead_letters.recent", "{message}", "Those of the last hour.")
    parkings = _meter.create_counter("bridge.parked.records", "{message}", "Records queued behind a waiting key.")
    fenced = _meter.create_counter("bridge.consumer.fenced", "{event}", "Batches rolled back for a newer owner.")
    rebuilt = _meter.create_counter("bridge.consumer.rebuilt", "{event}", "Kafka clients replaced by new ones.")
    lag = _meter.create_gauge("bridge.consumer.lag", "{message}", "Records not applied yet, by topic.")
    parked_keys = _meter.create_gauge("bridge.parked.keys", "{key}", "Keys that wait, by rule.")
    stops = _meter.create_gauge(
        "bridge.consumer.stopped", "{stop}", "Consumers of all services that wait for a person."
    )
    sent = _meter.create_counter("messaging.client.sent.messages", "{message}", "Records relayed, by topic.")
    unknown_sends = _meter.create_counter("bridge.relay.unknown", "{batch}", "Sends without an answer, repeated.")
    outbox_pending = _meter.create_gauge("bridge.outbox.pending", "{message}", "Events not relayed yet, by topic.")
    outbox_age = _meter.create_gauge("bridge.outbox.age", "s", "Age of the oldest event not relayed yet.")
    stuck_buckets = _meter.create_gauge("bridge.outbox.bucket.stuck", "{bucket}", "Buckets that cannot be relayed.")
    attempts = _meter.create_counter("bridge.obligations.attempts", "{attempt}", "Attempts, by kind, step and result.")
    owed = _meter.create_gauge("bridge.obligations.owed", "{obligation}", "Obligations not closed, by kind and state.")
    overdue = _meter.create_gauge("bridge.obligations.overdue", "s", "How long the oldest is past its due time.")
    open_cases = _meter.create_gauge("bridge.cases.open", "{case}", "Open exception cases, by code.")
    orders = _meter.create_gauge("bridge.orders", "{order}", "Orders, by the stage they stand at.")
    next_deadline = _meter.create_gauge("bridge.orders.next_deadline", "s", "Business time left to answer an order.")
    money_at_risk = _meter.create_gauge("bridge.orders.money_at_risk", "{unit}", "Of orders to answer, by currency.")
    freshness = _meter.create_gauge("bridge.stock.freshness", "s", "Age of what marketplaces confirm, by quantile.")
    unconfirmed_age = _meter.create_gauge("bridge.stock.unconfirmed_age", "s", "Age of the oldest not confirmed.")
    source_age = _meter.create_gauge("bridge.stock.source_age", "s", "Since a source of stock was last read or heard.")
    breakers = _meter.create_gauge("bridge.breakers.open", "{account}", "Accounts that are closed off.")
    slowed_down = _meter.create_counter("bridge.budget.slowed_down", "{call}", "Calls answered with 429 or 503.")
    log_fields_dropped = _meter.create_counter("bridge.log.fields_dropped", "{field}", "Log fields not on the list.")
    remote_seconds = _meter.create_histogram(
        "http.client.request.duration", "s", "Remote calls.", explicit_bucket_boundaries_advisory=_SECONDS
    )
    remote_errors = _meter.create_counter("bridge.remote.errors", "{error}", "Remote calls that failed, by kind.")
    remote_surprises = _meter.create_counter("bridge.remote.surprises", "{name}", "Names outside a vendor's contract.")


class Readings:
    """What a loop's gauges tell, so that a reading whose row is gone falls to 0 instead of standing for ever."""

    def __init__(self) -> None:
        self._told: dict[tuple[int, str], dict[frozenset[tuple[str, str]], dict[str, str]]] = {}

    def set(self, gauge: Any, readings: Iterable[tuple[float, dict[str, str]]], within: str = "") -> None:
        """Set these readings, and those to 0 that were set before, `within` the same part, and are not among them."""
        now = {}
        for value, about in readings:
            gauge.set(value, about)
            now[frozenset(about.items())] = about
        before = self._told.get((id(gauge), within), {})
        for labels, about in before.items():
            if labels not in now:
                gauge.set(0, about)
        self._told[id(gauge), within] = now


# Traces ---------------------------------------------------------------------------------------------


def is_sampled(traceparent: str | None) -> bool:
    """Whether a W3C `traceparent` says that its trace is recorded."""
    return traceparent is not None and traceparent[-1] in "13579bdf"


def new_traceparent(topic: str = "", *, sampled: bool | None = None) -> str:
    """The context of a new trace that begins with an event on `topic`."""
    if sampled is None:
        sampled = random.random() < TRACED.get(topic, 1.0)
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-0{sampled:d}"


def traceparent_of(span: Span) -> str:
    """A span's context as the header that carries it on."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def context_of(traceparent: str) -> SpanContext:
    """The span that a header tells of."""
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def start_stage(
    name: str,
    traceparent: str,
    kind: SpanKind,
    *,
    attributes: Mapping[str, str | int],
    links: Sequence[str] = (),
) -> Span:
    """A span of one stage under the context that a record carries; the caller ends it.

    `links` are the contexts of what lies days back, such as the orders of a payout.
    """
    return _tracer.start_span(
        name,
        trace.set_span_in_context(NonRecordingSpan(context_of(traceparent))),
        kind,
        dict(attributes),
        [trace.Link(context_of(link)) for link in links],
    )


def begin_trace(name: str, *, attributes: Mapping[str, str | int], links: Sequence[str] = ()) -> str:
    """Begin a trace with a span that is over at once; the context in which it goes on.

    It is linked to the contexts given and to the current span, such as the reading that found many orders.
    """
    current = trace.get_current_span().get_span_context()
    contexts = [context_of(link) for link in links] + ([current] if current.is_valid else [])
    span = _tracer.start_span(
        name, Context(), SpanKind.PRODUCER, dict(attributes), [trace.Link(context) for context in contexts]
    )
    span.end()
    # Where nothing records spans there is none, and the trace still travels.
    return traceparent_of(span) if span.get_span_context().is_valid else new_traceparent(sampled=True)


@contextmanager
def new_trace(name: str, *, attributes: Mapping[str, str | int], links: Sequence[str] = ()) -> Iterator[None]:
    """A span that begins a trace and lasts as long as the block, such as one reading; calls stand under it."""
    linked = [trace.Link(context_of(link)) for link in links]
    span = _tracer.start_span(name, Context(), SpanKind.INTERNAL, dict(attributes), linked)
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except BaseException as error:
            end_stage(span, error)
            raise
    end_stage(span)


def end_stage(span: Span, error: BaseException | None = None) -> None:
    """End a span; an error leaves its type, never its text, which may hold what the record holds."""
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        span.set_attribute("error.type", type(error).__name__)
    span.end()


# Logs -----------------------------------------------------------------------------------------------

LOG_FIELDS: Final = frozenset(
    {
        *("event", "level", "timestamp", "logger", "service", "instance", "trace_id", "span_id"),
        *("error", "where", "reason", "rule", "field", "field_names", "signal", "status", "path", "port"),
        *("consumer", "topic", "partition", "offset", "epoch", "holder", "loop", "loops"),
        *("count", "parked", "attempts", "seconds", "event_type", "event_id", "source", "sequence"),
        *("marketplace", "shop", "stage", "operation", "account", "case_code", "correlation_id"),
        *("order_id", "place"),
    }
)
"""What a log line may carry: ids, counts and our own words. A new field is added here, after a look at
what it can hold: no names, addresses, e-mails or telephone numbers, and no payloads."""

_EMAIL: Final = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+\.[^\s@<>\"']+")
_OWN_NOTES: Final = frozenset({"_record", "_from_structlog"})
"""What structlog notes on a library's line and takes off again before it is written."""
_noted: set[str] = set()


def keep_listed_fields(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every field that is not on the list; their names are told once, their values never."""
    unlisted = [name for name in event if name not in LOG_FIELDS and name not in _OWN_NOTES]
    for name in unlisted:
        del event[name]
    if unlisted:
        Metrics.log_fields_dropped.add(len(unlisted))
        if new := sorted(set(unlisted) - _noted):
            _noted.update(new)
            event["field_names"] = "not on the list of log fields: " + ", ".join(new)
    return event


def mask_addresses(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Whatever looks like an e-mail address becomes ***, in every text."""
    for name, value in event.items():
        if isinstance(value, str) and "@" in value:
            event[name] = _EMAIL.sub("***", value)
    return event


def tell_errors_apart(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception becomes its type, its place, and its text only where the text is ours."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    elif isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        event["where"] = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in reversed(frames))
        if isinstance(error, BridgeError):
            event["reason"] = str(error)
    return event


def add_trace(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The ids of the span that is current, if one is."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def _as_json(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode()


def set_up_logs(service: str, instance: str, level: str = "INFO") -> None:
    """JSON lines on standard output, for our own logs and for those of libraries."""
    shared_steps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_trace,
        tell_errors_apart,
        keep_listed_fields,
        mask_addresses,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared_steps,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _as_json],
            foreign_pre_chain=shared_steps,
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # The client repeats itself while a broker is away; what matters of it, our own loops say.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)


# Set-up ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What runs in the background; `stop` sends what is left, bounded."""

    tracers: TracerProvider
    meters: MeterProvider

    def stop(self) -> None:
        """Flush and end; waits for a Collector for at most a few seconds."""
        self.tracers.force_flush(3_000)
        self.tracers.shutdown()
        self.meters.shutdown(3_000)


def set_up(
    service: str,
    instance: str,
    otlp_endpoint: str | None,
    *,
    exporters: Iterable[SpanExporter] = (),
    readers: Iterable[MetricReader] = (),
) -> Telemetry:
    """Traces and metrics of one process: Prometheus always, OTLP over HTTP where an endpoint is set."""
    resource = Resource.create(
        {"service.name": service, "service.namespace": "sfcc-mirakl-bridge", "service.instance.id": instance}
    )
    tracers = TracerProvider(resource=resource)
    metric_readers: list[MetricReader] = [PrometheusMetricReader(), *readers]
    span_exporters = list(exporters)
    if otlp_endpoint:
        base = otlp_endpoint.rstrip("/")
        span_exporters.append(OTLPSpanExporter(f"{base}/v1/traces", timeout=5))
        metric_readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(f"{base}/v1/metrics", timeout=5)))
    for exporter in span_exporters:
        tracers.add_span_processor(BatchSpanProcessor(exporter))
    meters = MeterProvider(metric_readers, resource)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    return Telemetry(tracers, meters)
