"""A Collector for tests: spans as services of their own export them, and the ways between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sandbox.common.server import start

Id = tuple[str, str]
"""A span's place: its trace and itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it was exported."""

    service: str
    name: str
    id: Id
    parent: Id | None
    links: tuple[Id, ...]
    attributes: dict[str, str]
    words: tuple[str, ...]
    """All that it says in letters: its name, its attributes and those of its events, its status."""

    def __str__(self) -> str:
        return f"{self.service}: {self.name}"


@dataclass
class Collected:
    """Everything that was exported so far."""

    url: str = ""
    spans: dict[Id, Seen] = field(default_factory=dict)

    def take_in(self, body: bytes) -> None:
        """One export, as OTLP over HTTP has it."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                trace = span.trace_id.hex()
                made = Seen(
                    service=about["service.name"],
                    name=span.name,
                    id=(trace, span.span_id.hex()),
                    parent=(trace, span.parent_span_id.hex()) if span.parent_span_id else None,
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    attributes={one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes},
                    words=(
                        *(span.name, span.status.message, *(event.name for event in span.events)),
                        *(one.value.string_value for one in span.attributes),
                        *(one.value.string_value for event in span.events for one in event.attributes),
                    ),
                )
                self.spans[made.id] = made

    def named(self, service: str, name: str, about: str = "") -> list[Seen]:
        """Spans of a service by their name, and by a word of their attributes."""
        return [
            span
            for span in self.spans.values()
            if (span.service, span.name) == (service, name) and (not about or about in span.attributes.values())
        ]

    def way_back(self, begin: Seen, end: Seen) -> list[Seen]:
        """The shortest way from a span to an earlier one over parents and links only; empty where there is none."""
        came: dict[Id, Id | None] = {begin.id: None}
        queue = [begin.id]
        for place in queue:
            if place == end.id:
                way: list[Seen] = []
                step: Id | None = place
                while step is not None:
                    way.append(self.spans[step])
                    step = came[step]
                return way[::-1]
            span = self.spans[place]
            for other in (*([span.parent] if span.parent else []), *span.links):
                if other in self.spans and other not in came:
                    came[other] = place
                    queue.append(other)
        return []

    def around(self, begin: Seen) -> list[Seen]:
        """All that hangs together with a span over parents and links in either direction."""
        near: defaultdict[Id, set[Id]] = defaultdict(set)
        for span in self.spans.values():
            for other in (*([span.parent] if span.parent else []), *span.links):
                near[span.id].add(other)
                near[other].add(span.id)
        seen, queue = {begin.id}, [begin.id]
        for place in queue:
            queue += [other for other in near[place] if other not in seen]
            seen |= near[place]
        return [self.spans[place] for place in queue if place in self.spans]


@asynccontextmanager
async def collector() -> AsyncIterator[Collected]:
    """An endpoint for OTLP over HTTP on loopback."""
    collected = Collected()

    async def traces(request: web.Request) -> web.Response:
        collected.take_in(await request.read())
        return web.Response()

    async def metrics(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application(client_max_size=64 * 2**20)
    app.add_routes([web.post("/v1/traces", traces), web.post("/v1/metrics", metrics)])
    bound = await start(app)
    collected.url = bound.url
    try:
        yield collected
    finally:
        await bound.stop()
