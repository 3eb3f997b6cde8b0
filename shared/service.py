"""What every service is made of, opened together and run side by side; a service adds its handlers and loops.

    def main() -> None:
        script(lambda stop: serve(load(ACCEPTOR), stop))

    async def serve(settings: ServiceSettings, stop: asyncio.Event) -> None:
        async with open_service(ACCEPTOR, settings, own=MIGRATIONS) as service:
            reference = service.consume(Handlers(project(MappingSet, keep_mapping)), name="acceptor-reference")
            service.consume(Handlers(react(OrderCaptured, answer_order)), after=reference)
            service.loop("answers", Answers(service.outbox, service.clock).run)
            await service.run(stop)

The relay sends what `shared.topics` says the service writes, `cases` and `dead-letters` included. A test
opens the same with `telemetry=False`, and with `HEALTH_PORT=0` in its settings.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from shared import gauges, inbox
from shared.breaker import Breaker
from shared.clients import SFCC_ACCOUNT, all_keys, keys_of
from shared.clock import BusinessClock
from shared.consumer import Consumer, Pace, run_after
from shared.database import Database, migrate
from shared.errors import Transient
from shared.handlers import Handlers
from shared.health import Health
from shared.kafka import BatchProducer, KafkaConsumer, Partition, edge_offsets, ensure_topics
from shared.lifecycle import Loop, run_loops
from shared.outbox import Outbox
from shared.relay import Relay
from shared.settings import ServiceSettings, Settings
from shared.telemetry import set_up, set_up_logs
from shared.topics import ALL, TOPICS

_CLAIMS_KEPT: Final = max(topic.retention for topic in TOPICS if topic.retention is not None)
_HOUSEKEEPING_SECONDS: Final = 3_600.0


@dataclass(slots=True)
class Service:
    """One process of a service: its places, and the loops that `run` starts."""

    name: str
    """As people write it: `order-ingestor`; its schema has underscores."""
    instance: str
    """Unique per process start."""
    settings: Settings
    database: Database
    clock: BusinessClock
    outbox: Outbox
    health: Health
    health_port: int
    running: asyncio.Event
    """Set once the loops run; until then the process answers, and is not ready."""
    consumers: list[Consumer] = field(default_factory=list)
    loops: dict[str, Loop] = field(default_factory=dict)

    def consume(
        self,
        handlers: Handlers,
        *,
        name: str | None = None,
        after: Consumer | None = None,
        sources: Mapping[str, frozenset[str]] | None = None,
        pace: Pace | None = None,
    ) -> Consumer:
        """Read the topics of these handlers; `name` is the group, the service's own unless given.

        With `after`, a consumer of reference data, reading begins when that one has read its topics to
        the end they had at the start: an order that overtakes its mapping would raise a false case.
        """
        group = name or self.name
        topics = [topic.name for topic in handlers.topics]
        consumer = Consumer(
            group,
            self.instance,
            handlers,
            self.outbox,
            lambda: KafkaConsumer(self.settings.kafka, group, topics, client_id=f"{group}-{self.instance}"),
            sources or {},
            pace or Pace(),
            beat=self.beat(group),
        )
        self.consumers.append(consumer)
        self.health.checks[group] = lambda: consumer.joined
        self.loop(group, consumer.run, after=after)
        return consumer

    def breaker(self, settings: ServiceSettings) -> Breaker:
        """The breakers as this process sees them, of the keys that its stage sends."""
        return Breaker(
            self.database,
            self.clock,
            self.instance,
            keys=keys_of(settings, self.name),
            known=all_keys(settings),
            accounts={SFCC_ACCOUNT, *(shop.account for shop in settings.shops)},
        )

    def loop(self, name: str, loop: Loop, *, after: Consumer | None = None) -> None:
        """Run this too, until the stop event is set; the first loop that fails ends the process.

        With `after` it begins as a consumer does that `consume` is given one for.
        """
        if name in self.loops:
            raise ValueError(f"two loops named {name!r}: a consumer of the same service needs a name of its own")
        self.loops[name] = loop if after is None else partial(self._run_after, after, loop)

    def beat(self, loop: str, limit_seconds: float = 60.0) -> Callable[[], None]:
        """What a loop calls whenever it comes round. It is watched from its first beat on: until then
        it may wait for others, which readiness tells and no restart would shorten."""

        def beat() -> None:
            if loop not in self.health.heartbeats:
                self.health.heartbeat(loop, limit_seconds)
            self.health.heartbeats[loop].beat()

        return beat

    async def run(self, stop: asyncio.Event) -> None:
        """Run everything side by side until `stop`."""
        written = [topic for topic in TOPICS if topic.writer in (self.name, ALL)]
        relay = Relay(
            self.outbox,
            written,
            self.instance,
            lambda: BatchProducer(self.settings.kafka, client_id=f"{self.name}-relay-{self.instance}"),
            beat=self.beat("relay"),
        )
        measure = partial(gauges.run, self.database, self.consumers, self.settings.kafka, self.beat("gauges", 120.0))
        mechanism: dict[str, Loop] = {
            "clock": partial(self.clock.run, self.database),
            "relay": relay.run,
            "gauges": measure,
            "housekeeping": self._drop_old_claims,
        }
        self.running.set()
        await run_loops(stop, mechanism | self.loops)

    async def _run_after(self, reference: Consumer, loop: Loop, stop: asyncio.Event) -> None:
        async def ends() -> Mapping[Partition, int]:
            topics = reference.handlers.topics
            partitions = [Partition(topic.name, p) for topic in topics for p in range(topic.partitions)]
            return (await edge_offsets(self.settings.kafka, partitions))[1]

        await run_after(reference, ends, [], stop)
        await loop(stop)

    async def _drop_old_claims(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(Transient):
                await inbox.drop_days(self.database, inbox.horizon(self.clock.now(), _CLAIMS_KEPT))
            with suppress(TimeoutError):
                async with asyncio.timeout(_HOUSEKEEPING_SECONDS):
                    await stop.wait()


@asynccontextmanager
async def open_service(
    name: str,
    settings: Settings,
    *,
    own: Path | None = None,
    prepare: bool = True,
    telemetry: bool = True,
) -> AsyncIterator[Service]:
    """Open what a service stands on; `own` is the folder of its migrations.

    `prepare` brings the schema up to date and creates missing topics: harmless to repeat, and left out
    where a deployment did both before. `telemetry` sets up logs, traces and metrics for the whole
    process, so it is left out where several services share one.

    Raises:
        Fatal: a topic or a setting is wrong, a person must act.
        Transient: PostgreSQL or Kafka do not answer; start again.
    """
    instance = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    schema = name.replace("-", "_")
    async with AsyncExitStack() as stack:
        if telemetry:
            set_up_logs(name, instance)
            stack.push_async_callback(asyncio.to_thread, set_up(name, instance, settings.otlp_endpoint).stop)
        running = asyncio.Event()
        health = Health(checks={"running": running.is_set})
        runner, port = await health.serve(settings.health_host, settings.health_port)
        stack.push_async_callback(runner.cleanup)
        if prepare:
            await migrate(settings.database_url, schema, own)
            await ensure_topics(settings.kafka, TOPICS, replication_factor=settings.replication_factor)
        database = await stack.enter_async_context(
            await Database.connect(
                settings.database_url,
                schema,
                application=name,
                connections=settings.connections,
                password=settings.database_password,
            )
        )
        clock = BusinessClock()
        await clock.synchronize(database)
        yield Service(name, instance, settings, database, clock, Outbox(database, name, clock), health, port, running)
