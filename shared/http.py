"""HTTP calls to Mirakl and SFCC: the only place that makes aiohttp sessions, and the one that sorts what goes wrong.

A request leaves exactly once per attempt: aiohttp's own silent repeat is switched off (platform.md, "aiohttp
client trap"). Every call passes the gate, has a time-out, a span and its metrics, and ends in one of four ways:

    an answer        2xx, read to its end
    Transient        it never left; 408, 429 or 503; or no whole answer to a call without effect
    Refused          any other 3xx or 4xx: the same request gets the same answer
    UnknownOutcome   it left, and 5xx, silence or half an answer came back to a call with an effect

No error's text, span or log line holds a key, a token, a header, a query or a body.
"""

from __future__ import annotations

import re
import ssl
import tempfile
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import IO, Any, Final, TypeVar

import aiohttp
import msgspec
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from yarl import URL

from shared.answers import Unreadable
from shared.clock import monotonic
from shared.errors import BridgeError, Refused, Transient, UnknownOutcome
from shared.operations import Call, Gate, Operation, Purpose, hear
from shared.telemetry import Metrics

T = TypeVar("T")

CONNECT_SECONDS: Final = 10.0
"""For a connection, the wait for a free one included; what is later than this has not left."""
QUIET_SECONDS: Final = 60.0
"""The longest silence in the middle of a download."""
IDLE_SECONDS: Final = 10.0
"""An idle connection is given up before the other side does it under a request that is just leaving."""
ANSWER_BYTES: Final = 64 << 20
"""More than any vendor's page; what is longer is no answer to what was asked."""
LONGEST_WAIT_SECONDS: Final = 86_400.0
"""No vendor publishes a longer pause; a slip in the header must not stop an operation for ever."""
SHED_SECONDS: Final = 5.0
"""After a 503 by which SFCC sheds load (business time): it is busy, not away, and names no time itself."""
ERROR_BYTES: Final = 1 << 20
MEMORY_BYTES: Final = 4 << 20
"""What of a file is held in memory before it goes to disk."""
CHUNK_BYTES: Final = 1 << 16

_tracer = trace.get_tracer("sfcc-mirakl-bridge")
_numbers = msgspec.json.Encoder(decimal_format="number")
_QUOTED = re.compile(r"""(?<!\w)(['"])(.*?)\1""")
_CODE_LIKE = re.compile(r"[A-Z0-9][A-Z0-9_.:/-]*|-?\d+(\.\d+)?")
_CODE = re.compile(r"[A-Za-z][\w.-]{0,99}")
_EMAIL = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+")
_TELEPHONE = re.compile(r"(?<![\w-])[+0]\d[\d ()/-]{5,}\d(?![\w-])")

Query = Sequence[tuple[str, str]]


@asynccontextmanager
async def open_session(
    *, connections: int = 20, tls: ssl.SSLContext | bool = True
) -> AsyncIterator[aiohttp.ClientSession]:
    """The session that all clients of a process share; `tls` carries a company's own certificates."""
    traces = aiohttp.TraceConfig()
    traces.on_request_headers_sent.append(_note_that_it_left)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=IDLE_SECONDS, ssl=tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "sfcc-mirakl-bridge"},
        timeout=aiohttp.ClientTimeout(total=30, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS),
        trace_configs=[traces],
        max_line_size=1 << 16,
        max_field_size=1 << 16,
    ) as session:
        # aiohttp sends PUT and DELETE a second time when the connection is cut; Mirakl's refund is a PUT.
        assert session._retry_connection is True  # the private switch is still there
        session._retry_connection = False
        yield session


async def _note_that_it_left(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    # Called just before the first byte is written: what was not noted cannot have arrived.
    departure = context.trace_request_ctx
    if isinstance(departure, _Departure):
        departure.left = True


@dataclass(slots=True)
class _Departure:
    left: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a success, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def answered_at(self) -> datetime | None:
        """The other side's clock (`Date`), aware UTC, to the second."""
        return _http_date(self.headers.get("Date", ""))


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a vendor's error body says: its name for the refusal, and its words."""

    code: str = ""
    text: str = ""


def as_json(value: object) -> bytes:
    """JSON with decimals as numbers, digit for digit."""
    return _numbers.encode(value)


def told(text: str, secrets: Sequence[str] = ()) -> str:
    """A vendor's words as an error may carry them: quoted values, addresses and secrets become ***.

    Figures and codes stay, because "passed 113.24, computed 113.25" is what a person needs.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = _QUOTED.sub(lambda m: m[0] if _CODE_LIKE.fullmatch(m[2]) else f"{m[1]}***{m[1]}", text)
    text = _TELEPHONE.sub("***", _EMAIL.sub("***", text))
    return " ".join(text.split())[:300]


class Caller:
    """Sends requests of one system for one account; the clients say which."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        gate: Gate,
        account: str,
        *,
        explain: Callable[[bytes], Refusal],
        key: str = "",
    ) -> None:
        self._session = session
        self._gate = gate
        self._account = account
        self._explain = explain
        self._key = key

    async def send(
        self,
        operation: Operation,
        method: str,
        url: URL,
        read: Callable[[Answer], T],
        *,
        headers: Mapping[str, str],
        query: Query = (),
        body: bytes | aiohttp.FormData | None = None,
        purpose: Purpose = "poll",
        about: str = "",
        page: bool = False,
        key: str = "",
    ) -> T:
        """One request, and what `read` makes of its answer; `key` is the setting of the key that it shows.

        `read` may raise `Unreadable`, which counts as no answer. Raises `Transient`, `Refused`, `UnknownOutcome`.
        """

        async def receive(response: aiohttp.ClientResponse) -> T:
            return read(Answer(response.status, response.headers, await _whole(response, ANSWER_BYTES)))

        timeout = aiohttp.ClientTimeout(total=operation.timeout_seconds, connect=CONNECT_SECONDS)
        return await self._exchange(
            operation,
            method,
            url.extend_query(list(query)) if query else url,
            receive,
            {"headers": headers, "data": body, "timeout": timeout, "allow_redirects": False},
            purpose=purpose,
            about=about,
            page=page,
            key=key or self._key,
        )

    async def download(
        self,
        operation: Operation,
        url: URL,
        *,
        headers: Mapping[str, str],
        query: Query = (),
        purpose: Purpose = "poll",
        about: str = "",
    ) -> IO[bytes]:
        """A file, read to its end into memory or, where it is large, onto disk; the caller closes it.

        A cut in the middle is noticed before anything of the file was used. Raises as `send`.
        """

        async def receive(response: aiohttp.ClientResponse) -> IO[bytes]:
            file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115  (the caller closes it)
            try:
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    file.write(chunk)
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file

        timeout = aiohttp.ClientTimeout(
            total=operation.timeout_seconds, connect=CONNECT_SECONDS, sock_read=QUIET_SECONDS
        )
        # aiohttp drops Authorization when a redirect leads to another origin.
        return await self._exchange(
            operation,
            "GET",
            url.extend_query(list(query)) if query else url,
            receive,
            {"headers": headers, "timeout": timeout, "allow_redirects": True},
            purpose=purpose,
            about=about,
            page=False,
            key=self._key,
        )

    async def _exchange(
        self,
        operation: Operation,
        method: str,
        url: URL,
        receive: Callable[[aiohttp.ClientResponse], Awaitable[T]],
        request: dict[str, Any],
        *,
        purpose: Purpose,
        about: str,
        page: bool,
        key: str,
    ) -> T:
        departure = _Departure()
        secrets = _secrets(request["headers"])
        async with self._gate.call(operation, self._account, purpose=purpose, about=about, page=page) as call:
            with _tracer.start_as_current_span(
                operation.name,
                kind=SpanKind.CLIENT,
                attributes={
                    "http.request.method": method,
                    "server.address": url.host or "",
                    "server.port": url.port or 0,
                    "bridge.system": operation.system,
                    "bridge.operation": operation.name,
                    "bridge.account": self._account,
                },
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                started = monotonic()
                failure: BridgeError | None = None
                try:
                    async with self._session.request(method, url, trace_request_ctx=departure, **request) as response:
                        _note_answer(call, response)
                        _note_grant(operation, key, response.status)
                        span.set_attribute("http.response.status_code", response.status)
                        if response.status < 300:
                            return await receive(response)
                        failure = self._sort(operation, call, await _some(response), secrets, key)
                except (aiohttp.ClientError, TimeoutError, OSError, Unreadable) as error:
                    # Only its type: the text of aiohttp's errors may show the request's headers.
                    failure = _unanswered(operation, departure.left, error)
                finally:
                    kind = type(failure).__name__ if failure else ""
                    _measure(operation, call, monotonic() - started, kind)
                    if failure is not None:
                        span.set_status(Status(StatusCode.ERROR, kind))
                        span.set_attribute("error.type", kind)
                raise failure

    def _sort(self, operation: Operation, call: Call, body: bytes, secrets: Sequence[str], key: str) -> BridgeError:
        status = call.status or 0
        refusal = self._explain(body)
        code = refusal.code if _CODE.fullmatch(refusal.code) else ""
        words = f" {code}" if code else ""
        words += f": {told(refusal.text, secrets)}" if refusal.text else ""
        if status in (408, 429, 503):
            wait = call.retry_after_seconds
            if wait is None and status == 503 and call.load:
                wait = SHED_SECONDS
            return Transient(f"{operation.name} was put off with status {status}{words}", retry_seconds=wait)
        if status < 500:
            return Refused(
                f"{operation.name} was refused with status {status}{words}",
                operation=operation.name,
                status=status,
                code=code,
                key=key if status == 401 else "",
            )
        if operation.repeat == "reading":
            return Transient(
                f"{operation.name} failed with status {status}{words}", retry_seconds=call.retry_after_seconds
            )
        return UnknownOutcome(
            f"{operation.name} failed with status {status}{words}; it may have had its effect", operation=operation.name
        )


def _unanswered(operation: Operation, left: bool, error: Exception) -> BridgeError:
    what = str(error) if isinstance(error, Unreadable) else type(error).__name__
    if not left:
        return Transient(f"{operation.name} never left: {what}")
    if operation.repeat == "reading":
        return Transient(f"{operation.name} has no whole answer: {what}")
    return UnknownOutcome(
        f"{operation.name} has no whole answer: {what}; it may have had its effect", operation=operation.name
    )


def _note_answer(call: Call, response: aiohttp.ClientResponse) -> None:
    call.status = response.status
    call.load = response.headers.get("sfdc_load_status")
    call.retry_after_seconds = _retry_after(response.headers)


def _note_grant(operation: Operation, key: str, status: int) -> None:
    """What an answer shows to be allowed: a key that is not refused is good, whatever it may not do."""
    if status < 500 and status not in (401, 408, 429):
        hear(key, "" if status == 403 else operation.name)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` asks for; a date counts from the answer's own `Date`. More than a day is a day."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_WAIT_SECONDS)
    until, now = _http_date(value), _http_date(headers.get("Date", ""))
    return min(max(0.0, (until - now).total_seconds()), LONGEST_WAIT_SECONDS) if until and now else None


def _http_date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value).astimezone(UTC) if value else None
    except (ValueError, OverflowError):
        return None


async def _whole(response: aiohttp.ClientResponse, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        size += len(chunk)
        if size > most:
            raise Unreadable(f"longer than {most} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _some(response: aiohttp.ClientResponse) -> bytes:
    """An error's body; the status says what happened even where the body does not come."""
    try:
        return await _whole(response, ERROR_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError, Unreadable):
        return b""


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What must not be repeated: the header, what follows `Basic` or `Bearer`, and the password inside."""
    credential = headers.get("Authorization", "")
    scheme, _, value = credential.rpartition(" ")
    password = b64decode(value).decode(errors="replace").partition(":")[2] if scheme == "Basic" else ""
    return (credential, value, password)


def _measure(operation: Operation, call: Call, seconds: float, kind: str) -> None:
    names: dict[str, str | int] = {"system": operation.system, "operation": operation.name}
    if call.status is not None:
        names["status"] = call.status
    Metrics.remote_seconds.record(seconds, names)
    if kind:
        Metrics.remote_errors.add(1, {**names, "kind": kind})
