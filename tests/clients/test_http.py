"""How calls end: what each kind of failure is called, what a call waits for, and what never leaves with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import shared.answers
import shared.http
from shared.breaker import blames_account
from shared.errors import BridgeError, Refused, Transient, UnknownOutcome
from shared.http import ANSWER_BYTES, open_session, told
from shared.mirakl import operations as op
from shared.mirakl.client import MiraklClient
from shared.operations import Call, Gate, OpenGate, Operation, Purpose, listening
from shared.telemetry import Metrics
from tests.clients.mirakl_calls import calls
from tests.clients.wire import Arrival, Reply, serving

KEY = "s3cr3t-key-4711"


class KeepingGate:
    """Lets everything through and keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.asked: list[tuple[str, str, Purpose, str, bool]] = []

    def call(
        self, operation: Operation, account: str, *, purpose: Purpose = "poll", about: str = "", page: bool = False
    ) -> AbstractAsyncContextManager[Call]:
        self.asked.append((operation.name, account, purpose, about, page))
        return self._kept(operation, account)

    @asynccontextmanager
    async def _kept(self, operation: Operation, account: str) -> AsyncIterator[Call]:
        call = Call(operation, account)
        self.calls.append(call)
        yield call


def client(session: aiohttp.ClientSession, url: str, gate: Gate | None = None) -> MiraklClient:
    return MiraklClient(session, url, lambda: KEY, "worten/4711", gate or OpenGate())


READING, EFFECT = "A01", "OR28"


@pytest.mark.parametrize(
    ("name", "status", "expected"),
    [
        *((name, status, Transient) for name in (READING, EFFECT) for status in (408, 429, 503)),
        *((name, status, Refused) for name in (READING, EFFECT) for status in (301, 400, 401, 403, 404, 409, 410, 422)),
        *((READING, status, Transient) for status in (500, 502, 504)),
        *((EFFECT, status, UnknownOutcome) for status in (500, 502, 504)),
    ],
)
async def test_a_status_says_what_must_happen_next(name: str, status: int, expected: type[BridgeError]) -> None:
    async with serving(lambda _: Reply(status)) as wire, open_session() as session:
        with pytest.raises(expected) as caught:
            await calls(wire.url)[name](client(session, wire.url))
    assert type(caught.value) is expected
    assert len(wire.arrivals) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"Retry-After": "Tue, 24 Nov 2026 12:00:30 GMT", "Date": "Tue, 24 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 400}, 86_400.0),
        ({"Retry-After": "Fri, 31 Dec 9999 12:00:00 GMT", "Date": "Tue, 24 Nov 2026 12:00:00 GMT"}, 86_400.0),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 -1200", "Date": "Tue, 24 Nov 2026 12:00:00 GMT"}, None),
        ({}, None),
    ],
)
async def test_retry_after_reaches_the_gate_and_whoever_called(headers: dict[str, str], seconds: float | None) -> None:
    gate = KeepingGate()
    headers = {**headers, "sfdc_load_status": "THROTTLE"}
    async with serving(lambda _: Reply(429, headers=headers)) as wire, open_session() as session:
        with pytest.raises(Transient) as caught:
            await client(session, wire.url, gate).read_stock_import("a-1")
    assert caught.value.retry_seconds == seconds
    assert gate.asked == [("STO02", "worten/4711", "poll", "a-1", False)]
    assert (gate.calls[0].status, gate.calls[0].retry_after_seconds, gate.calls[0].load) == (429, seconds, "THROTTLE")


async def test_a_call_that_sfcc_sheds_tells_of_its_load_and_not_of_an_outage() -> None:
    for headers, seconds in (({"sfdc_load_status": "THROTTLE"}, shared.http.SHED_SECONDS), ({}, None)):
        async with serving(lambda _, h=headers: Reply(503, headers=h)) as wire, open_session() as session:  # type: ignore[misc]
            with pytest.raises(Transient) as caught:
                await calls()[EFFECT](client(session, wire.url))
        assert caught.value.retry_seconds == seconds
        assert blames_account(caught.value) is (seconds is None)


async def test_a_refused_key_is_named_as_the_settings_do_and_answers_say_what_they_grant() -> None:
    statuses = iter((401, 403, 404))
    heard: set[str] = set()
    async with serving(lambda _: Reply(next(statuses))) as wire, open_session() as session:
        named = MiraklClient(session, wire.url, lambda: KEY, "worten/4711", OpenGate(), key_name="api_keys.acceptor")
        with listening(heard):
            with pytest.raises(Refused) as unauthorized:
                await calls()[EFFECT](named)
            assert (unauthorized.value.key, heard) == ("api_keys.acceptor", set())
            with pytest.raises(Refused) as forbidden:
                await calls()[EFFECT](named)
            assert (forbidden.value.key, heard) == ("", {"api_keys.acceptor"})
            with pytest.raises(Refused):
                await calls()[EFFECT](named)
            assert heard == {"api_keys.acceptor", EFFECT}


async def test_what_never_left_is_transient_also_where_it_would_have_had_an_effect() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        async with open_session() as session:
            with pytest.raises(Transient):
                await calls()[EFFECT](client(session, f"http://127.0.0.1:{taken.getsockname()[1]}"))
    async with open_session() as session:
        with pytest.raises(Transient):
            await calls()[EFFECT](client(session, "http://no-such-host.invalid"))


@pytest.mark.parametrize(("name", "expected"), [(READING, Transient), (EFFECT, UnknownOutcome)])
async def test_silence_ends_at_the_operations_time_out(
    name: str, expected: type[BridgeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(op, name, replace(op.OPERATIONS[name], timeout_seconds=0.2))
    arrived = asyncio.Event()

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    async with server, open_session() as session:
        with pytest.raises(expected):
            await calls()[name](client(session, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    assert arrived.is_set()


HALF = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"refunds": ['
GARBAGE = b"\x15\x03\x01\x00\x02\x02\x16"


@pytest.mark.parametrize(("name", "expected"), [(READING, Transient), (EFFECT, UnknownOutcome)])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=HALF, cut=True),
        Reply(body=GARBAGE, cut=True),
        Reply(body=b"<html>maintenance</html>"),
        Reply(body=b'{"unexpected": true}'),
        Reply(body=b"x" * (ANSWER_BYTES + 1)),
        Reply(headers={"Content-Encoding": "gzip"}),
        Reply(body=b"[" * 200_000),
        Reply(body=b'{"refunds": "\\ud800", "shop_id": "\\ud800"}'),
    ],
    ids=["half an answer", "no HTTP", "no JSON", "another answer", "without end", "no gzip", "too deep", "half a pair"],
)
async def test_an_answer_that_is_none_is_silence(name: str, expected: type[BridgeError], reply: Reply) -> None:
    async with serving(lambda _: reply) as wire, open_session() as session:
        with pytest.raises(expected) as caught:
            await calls(wire.url)[name](client(session, wire.url))
    assert isinstance(caught.value, expected)
    assert len(wire.arrivals) == 1


async def test_the_codes_of_a_refusal_are_found_wherever_mirakl_puts_them() -> None:
    bodies = [
        b'{"status": 400, "code": "ORDER_INVALID_STATE", "message": "no"}',
        b'{"status": 400, "message": "no", "errors": [{"code": "ORDER_INVALID_STATE", "field": "x"}]}',
        b'{"status": 400, "message": "refused: ORDER_INVALID_STATE"}',
    ]
    for body in bodies:
        async with serving(lambda _, body=body: Reply(400, body)) as wire, open_session() as session:  # type: ignore[misc]
            with pytest.raises(Refused) as caught:
                await calls(wire.url)["OR21"](client(session, wire.url))
        assert (caught.value.operation, caught.value.status) == ("OR21", 400)
        assert caught.value.code == "ORDER_INVALID_STATE"


async def test_a_code_that_is_none_is_not_taken_for_one() -> None:
    async with (
        serving(lambda _: Reply(400, b'{"code": "Ada Byron, ada@example.com"}')) as wire,
        open_session() as session,
    ):
        with pytest.raises(Refused) as caught:
            await client(session, wire.url).read_account()
    assert caught.value.code == ""
    assert "Ada" not in str(caught.value)


# What never leaves with it --------------------------------------------------------------------------


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that the clients make."""
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(shared.http, "_tracer", tracers.get_tracer("test"))
    return exporter


@pytest.mark.parametrize(
    "reply",
    [
        *(Reply(body=body, cut=True) for body in (HALF, GARBAGE, b"")),
        *(
            Reply(status, f'{{"message": "bad key {KEY} of \'Ada Byron\' ada@example.com"}}'.encode())
            for status in (401, 500)
        ),
    ],
)
async def test_no_key_is_in_an_error_a_span_or_a_log_line(reply: Reply, spans: InMemorySpanExporter) -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving(lambda _: reply) as wire, open_session() as session:
            for name in (READING, EFFECT):
                with pytest.raises(BridgeError) as caught:
                    await calls(wire.url)[name](client(session, wire.url))
                error: BaseException | None = caught.value
                while error is not None:
                    for text in (str(error), repr(error), repr(error.__dict__)):
                        assert not any(word in text for word in (KEY, "Ada", "example.com"))
                    error = error.__context__
    told_by_spans = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "OR28" in told_by_spans
    assert not any(word in told_by_spans + str(logs) for word in (KEY, "Ada", "example.com"))


async def test_a_call_is_one_client_span_with_its_outcome(spans: InMemorySpanExporter) -> None:
    async with serving(lambda _: Reply(429)) as wire, open_session() as session:
        with pytest.raises(Transient):
            await client(session, wire.url).read_account()
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("A01", trace.SpanKind.CLIENT)
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 429
    assert span.attributes["error.type"] == "Transient"
    assert span.attributes["bridge.operation"] == "A01"
    assert span.attributes["bridge.account"] == "worten/4711"
    assert not span.status.is_ok
    assert not span.events


class Counted:
    """A metric that keeps what it was given."""

    def __init__(self) -> None:
        self.kept: list[tuple[float, dict[str, str | int]]] = []

    def add(self, amount: float, attributes: dict[str, str | int]) -> None:
        self.kept.append((amount, attributes))

    record = add


async def test_every_call_is_measured_and_every_failure_and_surprise_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, errors, surprises = Counted(), Counted(), Counted()
    monkeypatch.setattr(Metrics, "remote_seconds", seconds)
    monkeypatch.setattr(Metrics, "remote_errors", errors)
    monkeypatch.setattr(Metrics, "remote_surprises", surprises)
    monkeypatch.setattr(shared.answers, "is_sampled", lambda operation: True)
    replies = iter([Reply(429), Reply(body=b'{"carriers": [{"code": "X", "label": "X", "wings": 2}]}')])
    async with serving(lambda _: next(replies)) as wire, open_session() as session:
        mirakl = client(session, wire.url)
        with pytest.raises(Transient):
            await mirakl.list_carriers()
        assert (await mirakl.list_carriers())[0].code == "X"
    names: dict[str, str | int] = {"system": "mirakl", "operation": "SH21"}
    assert [attributes for _, attributes in seconds.kept] == [{**names, "status": 429}, {**names, "status": 200}]
    assert [attributes for _, attributes in errors.kept] == [{**names, "status": 429, "kind": "Transient"}]
    assert surprises.kept == [(1, {**names, "kind": "field"})]


def test_a_vendors_words_keep_figures_and_codes_and_lose_values() -> None:
    assert told("passed '113.24', computed '113.25'") == "passed '113.24', computed '113.25'"
    assert told("The order status must be 'SHIPPING' but it is 'SHIPPED'.") == (
        "The order status must be 'SHIPPING' but it is 'SHIPPED'."
    )
    assert told('firstName "Ada Byron" is too long') == 'firstName "***" is too long'
    assert told("call +44 20 1234 5678, 020 1234 5678 or ada@example.com") == "call ***, *** or ***"
    assert told("order ALPHA-000000001-A, EAN 3614270000000") == "order ALPHA-000000001-A, EAN 3614270000000"
    assert told("x" * 1000, ()) == "x" * 300


async def test_the_key_goes_to_the_marketplace_and_to_no_other_host() -> None:
    def answer(arrival: Arrival) -> Reply:
        return Reply(body=b"offer-id;shop-sku;active;deleted\n1;A;true;false\n")

    async with serving(answer) as wire, serving(answer) as other, open_session() as session:
        mirakl = client(session, wire.url)
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        for url in (wire.url, elsewhere):
            assert [offer.shop_sku async for offer in mirakl.read_offer_file(f"{url}/f?file=of52-export%offers/0.csv")]
        assert wire.arrivals[0].headers["authorization"] == KEY
        assert wire.arrivals[0].target == "/f?file=of52-export%offers/0.csv"
        assert "authorization" not in other.arrivals[0].headers


async def test_a_rotated_key_is_used_by_the_next_call() -> None:
    keys = iter(["first", "second"])
    async with serving(lambda _: Reply()) as wire, open_session() as session:
        mirakl = MiraklClient(session, wire.url, lambda: next(keys), "worten/4711", OpenGate())
        await mirakl.check_version()
        await mirakl.check_version()
    assert [arrival.headers["authorization"] for arrival in wire.arrivals] == ["first", "second"]
