"""A server on the wire for one test: it counts what arrives and answers, or cuts, as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request as it came in."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answers; `cut` closes the connection instead, after `body` was sent as it stands."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


CUT = Reply(body=b"", cut=True)


@dataclass(slots=True)
class Wire:
    """What arrived, and where."""

    url: str
    arrivals: list[Arrival] = field(default_factory=list)


@asynccontextmanager
async def serving(answer: Callable[[Arrival], Reply]) -> AsyncIterator[Wire]:
    """Serve `answer` on loopback. Written by hand, so that nothing between it and the wire repeats or hides."""
    wire = Wire("")
    connections = 0
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                method, target, _ = lines[0].split(" ", 2)
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines[1:] if line)
                }
                body = await _body(reader, headers)
                arrival = Arrival(number, method, target, headers, body)
                wire.arrivals.append(arrival)
                reply = answer(arrival)
                if reply.cut:
                    writer.write(reply.body)
                    break
                fields = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
                told = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                writer.write(f"HTTP/1.1 {reply.status} X\r\n{told}\r\n".encode() + reply.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 22)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        parts = b""
        while size := int(await reader.readline(), 16):
            parts += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return parts
    return await reader.readexactly(int(headers.get("content-length", "0")))
