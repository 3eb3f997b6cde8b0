"""Serving a sandbox over HTTP, and doing to the wire what a fault asks for.

A sandbox's operations are plain functions that return an `Answer`; `respond` puts one on the wire, through the
fault the call meets. `start` serves an application until `Bound.stop`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from sandbox.common.clock import Clock, iso
from sandbox.common.faults import FaultRule, rewritten
from sandbox.common.recorder import Received


def _plain(value: Any) -> Any:
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)


_decoder = msgspec.json.Decoder(float_hook=Decimal)


def to_json(payload: Any) -> bytes:
    """JSON with decimals as numbers, digit for digit."""
    return _encoder.encode(payload)


def from_json(body: bytes) -> Any:
    """JSON in UTF-8 with every fraction as Decimal, so that money survives being read and written.

    Raises msgspec.DecodeError or RecursionError for anything else, half a surrogate pair included.
    """
    return _decoder.decode(body)


async def read_body(request: web.Request) -> bytes:
    """All of a request's body. Raises HTTPBadRequest where it is not encoded as its headers say."""
    try:
        return await request.read() if request.body_exists else b""
    except RequestPayloadError as error:
        raise web.HTTPBadRequest(text=f"the body cannot be read: {error}") from error


@dataclass(slots=True)
class Answer:
    """What an operation says: a JSON payload, or raw bytes with their content type, or nothing."""

    status: int = 200
    payload: Any = None
    raw: bytes | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw
        return b"" if self.payload is None else to_json(self.payload)


@dataclass(frozen=True, slots=True)
class Bound:
    """A served application: where it listens, and how to stop it."""

    host: str
    port: int
    runner: web.AppRunner

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def stop(self) -> None:
        await self.runner.cleanup()


async def start(app: web.Application, host: str = "127.0.0.1", port: int = 0) -> Bound:
    """Serves `app`; port 0 takes a free one. Raises OSError when the port is taken."""
    # Two seconds are enough for running answers; what hangs on purpose must not hold the shutdown.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound_host, bound_port = runner.addresses[0][:2]
    return Bound(bound_host, bound_port, runner)


async def respond(
    request: web.Request,
    call: Received,
    fault: FaultRule | None,
    effect: Callable[[], Answer],
    clock: Clock,
) -> web.StreamResponse:
    """Carries out `effect` and answers, both as the fault prescribes; notes in `call` what really happened."""

    def done() -> Answer:
        call.effect_at = clock.now()
        return effect()

    if fault is None:
        return _plain_response(done(), call)
    call.fault = fault.kind
    match fault.kind:
        case "latency":
            await asyncio.sleep(fault.seconds)
            clock.settle()
            return _plain_response(done(), call)
        case "status":
            return _prescribed(fault, call)
        case "status_after_effect":
            done()
            return _prescribed(fault, call)
        case "cut_before_effect":
            return _cut(request)
        case "cut_after_effect":
            done()
            return _cut(request)
        case "late_effect":

            def late(_: datetime) -> None:
                done()

            clock.after(fault.seconds, late)
            await asyncio.sleep(fault.hold_seconds)
            return _cut(request)
        case "cut_in_body":
            return await _cut_in_body(request, done(), call)
        case "slow_body":
            return await _slow(request, done(), call, fault.seconds)
        case "garbage":
            done()
            call.status = 200
            body = fault.body if fault.body is not None else "<html><body>We will be right back</body></html>\xff"
            return web.Response(status=200, body=body.encode("latin-1", "replace"), content_type="application/json")
        case _:
            answer = done()
            if answer.payload is not None and answer.status < 300:
                # The payload may share structure with the state: rewrite a copy.
                answer.payload = rewritten(fault, from_json(to_json(answer.payload)))
            return _plain_response(answer, call)


def _plain_response(answer: Answer, call: Received) -> web.Response:
    call.status = answer.status
    body = answer.body()
    headers = dict(answer.headers)
    if body:
        headers["Content-Type"] = answer.content_type
    return web.Response(status=answer.status, body=body, headers=headers)


def _prescribed(fault: FaultRule, call: Received) -> web.Response:
    call.status = fault.status
    body = fault.body if fault.body is not None else f'{{"status":{fault.status},"message":"injected fault"}}'
    headers = {"Content-Type": "application/json", **fault.headers}
    if fault.status == 429 and "Retry-After" not in headers:
        headers["Retry-After"] = str(max(1, round(fault.seconds)))
    return web.Response(status=fault.status, body=body.encode(), headers=headers)


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    # The transport is gone: this is never sent, aiohttp only wants a response object.
    return web.Response(status=500)


async def _cut_in_body(request: web.Request, answer: Answer, call: Received) -> web.StreamResponse:
    body = answer.body()
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Type": answer.content_type})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    # Give the half its way out; an abort at once would throw it away with the buffer.
    await asyncio.sleep(0.05)
    if request.transport is not None:
        request.transport.abort()
    return response


async def _slow(request: web.Request, answer: Answer, call: Received, seconds: float) -> web.StreamResponse:
    body = answer.body()
    call.status = answer.status
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Type": answer.content_type})
    response.content_length = len(body)
    await response.prepare(request)
    pieces = 10
    size = max(1, -(-len(body) // pieces))
    for offset in range(0, len(body), size):
        await asyncio.sleep(seconds / pieces)
        await response.write(body[offset : offset + size])
    await response.write_eof()
    return response


def clock_shown(clock: Clock) -> dict[str, object]:
    """The clock as both control APIs print it."""
    return {"now": iso(clock.now()), "speed": clock.speed, "shared": clock.shared, "planned": clock.planned}


def tell_time(app: web.Application, clock: Clock) -> None:
    """Lets every answer of `app` carry the sandbox's time as its `Date`."""

    async def date(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = format_datetime(clock.now(), usegmt=True)

    app.on_response_prepare.append(date)
