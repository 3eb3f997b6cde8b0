"""`/live`, `/ready` and `/metrics` of one process.

Live means that every loop makes progress, never that Kafka or PostgreSQL answer: an outage of theirs
must not restart the fleet. Ready means that the process does its part: partitions taken, reference data
read. The body names what is late, and by how much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from shared.clock import monotonic


@dataclass(slots=True)
class Heartbeat:
    """One loop's sign of life."""

    limit_seconds: float
    last: float = field(default_factory=monotonic)

    def beat(self) -> None:
        """The loop has come round."""
        self.last = monotonic()

    @property
    def late_seconds(self) -> float:
        """How long after its limit; 0 while it is in time."""
        return max(0.0, monotonic() - self.last - self.limit_seconds)


@dataclass(slots=True)
class Health:
    """What one process says of itself."""

    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    checks: dict[str, Callable[[], bool]] = field(default_factory=dict)

    def heartbeat(self, loop: str, limit_seconds: float = 60.0) -> Callable[[], None]:
        """Register a loop that must come round at least every `limit_seconds`; what it calls each time."""
        self.heartbeats[loop] = Heartbeat(limit_seconds)
        return self.heartbeats[loop].beat

    def late(self) -> dict[str, float]:
        """The loops that are late, with the seconds by which they are."""
        return {name: round(beat.late_seconds, 1) for name, beat in self.heartbeats.items() if beat.late_seconds}

    def waiting(self) -> list[str]:
        """The checks that do not hold yet."""
        return [name for name, holds in self.checks.items() if not holds()]

    def app(self) -> web.Application:
        """The pages."""
        app = web.Application()
        app.add_routes([web.get("/live", self._live), web.get("/ready", self._ready), web.get("/metrics", _metrics)])
        return app

    async def _live(self, request: web.Request) -> web.Response:
        late = self.late()
        return web.json_response({"live": not late, "late_seconds": late}, status=503 if late else 200)

    async def _ready(self, request: web.Request) -> web.Response:
        waiting = self.waiting()
        return web.json_response({"ready": not waiting, "waiting_for": waiting}, status=503 if waiting else 200)

    async def serve(self, host: str, port: int) -> tuple[web.AppRunner, int]:
        """Listen; the port is the one given, or the one found for 0."""
        runner = web.AppRunner(self.app(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        return runner, int(runner.addresses[0][1])


async def _metrics(request: web.Request) -> web.Response:
    if "application/openmetrics-text" in request.headers.get("Accept", ""):
        # Prometheus asks for this format first.
        return web.Response(
            body=openmetrics.generate_latest(REGISTRY),  # type: ignore[no-untyped-call]
            headers={"Content-Type": openmetrics.CONTENT_TYPE_LATEST},
        )
    return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
