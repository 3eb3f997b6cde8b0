"""Hits a small service at random moments, and counts what came of it.

Lost, doubled and out of order are counted in applied state; effects in the memory of a remote system that
loses answers, and has some effects only after the client's time-out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final

import asyncpg

from bridge.embedded import EmbeddedKafka, EmbeddedPostgres
from bridge.embedded.places import free_port
from shared.clock import BusinessClock
from shared.database import Database
from shared.kafka import Address, BatchProducer, ensure_topics
from shared.lifecycle import EXIT_FATAL
from shared.outbox import Outbox
from tests.chaos.load import Load
from tests.chaos.plan import Kind, deck, percentile
from tests.chaos.service import CASES, DEAD, INPUT, MIDDLE, SCHEMA, SESSION_SECONDS, prepare
from tests.chaos.wire import Wire
from tests.kit.owing import (
    QUIET_SECONDS,
    hit_unguarded,
    kinds_of,
    open_client,
    open_count,
    reckon,
    settle_unknowns,
)
from tests.kit.remote import remote_system

ROOT: Final = Path(__file__).parents[2]
LOST_SHARE: Final = 0.05
"""Of the calls to the remote system, those whose answer is lost."""
RECOVERY_LIMIT_SECONDS: Final = 120.0
"""Longer than any promise: what is not back by then is lost to this run."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One hit and what came of it."""

    number: int
    kind: Kind
    replica: str
    in_flight: bool
    recover_seconds: float


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    seed: int
    seconds: float = 0.0
    events: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    effects: int = 0
    effects_lost: int = 0
    effects_doubled: int = 0
    effects_unknown: int = 0
    """Unguarded effects that a person had to be asked about."""
    effects_hit: int = 0
    """Unguarded effects whose call lost its answer, or whose caller was hit meanwhile: no more can be unknown."""
    left_over: dict[str, int] = field(default_factory=dict)
    """What should be empty at the end and is not: outbox, parked records, dead letters."""
    hits: list[Hit] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether the promise held."""
        wrong = self.lost or self.doubled or self.out_of_order or self.effects_lost or self.effects_doubled
        return not (wrong or self.effects_unknown > self.effects_hit or any(self.left_over.values()))

    def as_json(self) -> dict[str, Any]:
        """The last line that is printed."""
        seconds = [hit.recover_seconds for hit in self.hits]
        return {
            "kills": len(self.hits),
            "in_flight": sum(hit.in_flight for hit in self.hits),
            "by_kind": dict(sorted(Counter(hit.kind for hit in self.hits).items())),
            "seed": self.seed,
            "events": self.events,
            "lost": self.lost,
            "doubled": self.doubled,
            "out_of_order": self.out_of_order,
            "effects": self.effects,
            "effects_lost": self.effects_lost,
            "effects_doubled": self.effects_doubled,
            "effects_unknown": self.effects_unknown,
            "effects_hit": self.effects_hit,
            "recover_seconds_p50": round(percentile(seconds, 0.5), 2),
            "recover_seconds_p99": round(percentile(seconds, 0.99), 2),
            "seconds": round(self.seconds, 1),
        } | {name: count for name, count in self.left_over.items() if count}


class Replica:
    """One process of the service, started again whenever it ends, as an orchestrator would."""

    def __init__(self, name: str, remote_url: str, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._remote_url = remote_url
        self._environment = environment
        self._log = log
        self._process: Process | None = None
        self._ended = False

    async def keep_running(self) -> None:
        """Until `end`.

        Raises:
            RuntimeError: the service says that a person must act.
        """
        while not self._ended:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.chaos.service", self.name, self._remote_url,
                    cwd=ROOT, env=self._environment, stdout=log, stderr=log, stdin=DEVNULL,
                )  # fmt: skip
            status = await self._process.wait()
            if status == EXIT_FATAL:
                raise RuntimeError(f"{self.name} gave up for good:\n{self._log.read_text()[-3000:]}")
            if not self._ended and status == 1:
                await asyncio.sleep(0.5)  # It could not start, the database is away perhaps.

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def end(self) -> None:
        """No more starts, and the process goes."""
        self._ended = True
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)


@dataclass(slots=True)
class Chaos:
    """Everything of one run."""

    kafka: EmbeddedKafka
    postgres: EmbeddedPostgres
    database_url: str
    wires: tuple[Wire, Wire]
    replicas: list[Replica]
    load: Load
    remote_url: str
    random: random.Random
    _connection: asyncpg.Connection | None = None

    # Looking ------------------------------------------------------------------------------------

    async def ask(self, sql: str, *values: object) -> list[Any]:
        """Rows of one query on a connection that no hit reaches; nothing while PostgreSQL is away."""
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self.database_url, timeout=5, server_settings={"search_path": SCHEMA, "application_name": "watch"}
                )
            return list(await self._connection.fetch(sql, *values, timeout=60))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            if self._connection is not None:
                self._connection.terminate()
            self._connection = None
            return []

    async def applied(self, consumer: str = "follower") -> dict[str, int]:
        """The newest fact that a consumer has applied, per key."""
        rows = await self.ask("SELECT key, last FROM seen WHERE consumer = $1", consumer)
        return {row["key"]: row["last"] for row in rows}

    async def reached(self, wanted: dict[str, int], seconds: float) -> float | None:
        """Wait until every key is past what is wanted; the seconds it took, or None when it did not."""
        started = monotonic()
        while (passed := monotonic() - started) < seconds:
            there = await self.applied()
            if all(there.get(key, 0) >= n for key, n in wanted.items()):
                return passed
            await asyncio.sleep(0.05)
        return None

    async def stop_in_flight(self, replica: Replica) -> bool:
        """Stop a replica in the middle of a transaction; whether one was seen."""
        until = monotonic() + 5.0
        while True:
            replica.signal(signal.SIGSTOP)
            await asyncio.sleep(0.002)  # What the process had sent before it was stopped must have arrived.
            seen = await self.ask(
                """SELECT 1 FROM pg_stat_activity WHERE application_name = $1 AND xact_start IS NOT NULL
                   AND (state = 'idle in transaction' OR (state = 'active' AND xact_start < query_start))""",
                replica.name,
            )
            if seen or monotonic() > until:
                return bool(seen)
            replica.signal(signal.SIGCONT)
            await asyncio.sleep(self.random.uniform(0.001, 0.02))

    # Hitting ------------------------------------------------------------------------------------

    async def hit(self, number: int, kind: Kind) -> Hit:
        """One hit, and the wait until new facts are applied on every key.

        Raises:
            RuntimeError: they never are.
        """
        replica = self.random.choice(self.replicas)
        in_flight = await self.stop_in_flight(replica)
        wanted = {key: n + 1 for key, n in self.load.made.items()}
        started = monotonic()
        await self._strike(kind, replica)
        if await self.reached(wanted, RECOVERY_LIMIT_SECONDS) is None:
            raise RuntimeError(f"hit {number} ({kind} of {replica.name}): no recovery in {RECOVERY_LIMIT_SECONDS:g} s")
        return Hit(number, kind, replica.name, in_flight, monotonic() - started)

    async def _strike(self, kind: Kind, replica: Replica) -> None:
        match kind:
            case "kill":
                replica.signal(signal.SIGKILL)
            case "terminate":
                replica.signal(signal.SIGTERM)
            case "stop":
                await asyncio.sleep(SESSION_SECONDS * self.random.uniform(1.3, 2.0))
            case "cut":
                for wire in self.random.choice(((self.wires[0],), (self.wires[1],), self.wires)):
                    wire.cut()
            case "postgres":
                await asyncio.to_thread(self.postgres.kill)
                replica.signal(signal.SIGCONT)
                await asyncio.to_thread(self.postgres.restart)
            case "broker":
                await asyncio.to_thread(self.kafka.kill)
                replica.signal(signal.SIGCONT)
                await asyncio.to_thread(self.kafka.restart)
        replica.signal(signal.SIGCONT)

    # Counting -----------------------------------------------------------------------------------

    async def count(self, outcome: Outcome) -> None:
        """Compare what was made with what was applied, by both consumers."""
        outcome.events = self.load.events
        for consumer in ("forwarder", "follower"):
            rows = await self.ask(
                """SELECT key, count(DISTINCT n) AS different, count(*) AS all,
                          count(*) FILTER (WHERE n < before) AS backwards
                   FROM (SELECT key, n, lag(n) OVER (PARTITION BY key ORDER BY row) AS before
                         FROM facts WHERE consumer = $1) AS f GROUP BY key""",
                consumer,
            )
            found = {row["key"]: row for row in rows}
            for key, made in self.load.made.items():
                outcome.lost += made - (found[key]["different"] if key in found else 0)
            outcome.doubled += sum(row["all"] - row["different"] for row in rows)
            outcome.out_of_order += sum(row["backwards"] for row in rows)
        for table in ("outbox", "parked_records", "dead_letters", "consumer_stops"):
            outcome.left_over[table] = (await self.ask(f"SELECT count(*) AS n FROM {table}"))[0]["n"]

    async def count_effects(self, outcome: Outcome) -> None:
        """Wait until nothing is owed, play the person who is asked, and compare with what the remote remembers."""
        async with (
            await Database.connect(self.database_url, SCHEMA, application="watch", connections=2) as database,
            open_client(self.remote_url) as client,
        ):
            clock = BusinessClock()
            await clock.synchronize(database)
            outbox, kinds = Outbox(database, SCHEMA, clock), kinds_of(client)
            async with asyncio.timeout(RECOVERY_LIMIT_SECONDS):
                await self._nothing_open(database)
                memory = await client.memory()
                asked = await database.fetch("SELECT about FROM cases WHERE code = 'obligation-unknown'")
                outcome.effects_unknown = len(asked)
                outcome.effects_hit = len(await hit_unguarded(database, memory))
                await client.faults(share=0.0)
                while await settle_unknowns(outbox, kinds, memory):
                    await self._nothing_open(database)
                    memory = await client.memory()
            found = await reckon(database, memory)
        outcome.effects, outcome.effects_lost, outcome.effects_doubled = found.effects, found.lost, found.doubled
        outcome.left_over |= {"effects_misnoted": found.misnoted, "cases_open": found.open_cases}

    async def _nothing_open(self, database: Database) -> None:
        """Nothing is owed, also after the quiet period: a caller that woke late may cause one more call."""
        still = 0.0
        while still < QUIET_SECONDS:
            still = 0.0 if await open_count(database) else still + 0.2
            await asyncio.sleep(0.2)


@asynccontextmanager
async def prepared(seed: int, replicas: int, keys: int, per_second: float, logs: Path) -> AsyncIterator[Chaos]:
    """Servers of its own, wires before them, replicas behind those."""
    kafka_wire, postgres_wire = Wire(free_port()), Wire(free_port())
    await kafka_wire.open()
    await postgres_wire.open()
    stack = AsyncExitStack()
    remote_url = await stack.enter_async_context(remote_system(share=LOST_SHARE, seed=seed))
    servers = await asyncio.gather(
        asyncio.to_thread(
            EmbeddedKafka.start,
            port=kafka_wire.target_port,
            properties={"advertised.listeners": f"PLAINTEXT://127.0.0.1:{kafka_wire.port}"},
        ),
        asyncio.to_thread(EmbeddedPostgres.start, port=postgres_wire.target_port),
    )
    kafka, postgres = servers
    tasks: list[asyncio.Task[None]] = []
    chaos: Chaos | None = None
    try:
        database_url = await asyncio.to_thread(postgres.create_database, "chaos")
        await prepare(database_url)
        address = Address(f"127.0.0.1:{kafka_wire.port}")
        await ensure_topics(address, [INPUT, MIDDLE, DEAD, CASES])
        environment = dict(os.environ) | {
            "KAFKA_BOOTSTRAP_SERVERS": address.bootstrap_servers,
            "DATABASE_URL": database_url.replace(f":{postgres.port}/", f":{postgres_wire.port}/"),
        }
        members = [Replica(f"r{n}", remote_url, environment, logs / f"r{n}.log") for n in range(1, replicas + 1)]
        load = Load(lambda: BatchProducer(address, client_id="load"), keys, per_second)
        wires = (kafka_wire, postgres_wire)
        chaos = Chaos(kafka, postgres, database_url, wires, members, load, remote_url, random.Random(seed))
        tasks = [asyncio.create_task(member.keep_running()) for member in members]
        yield chaos
        for task in tasks:
            if task.done():
                task.result()
    finally:
        if chaos is not None:
            for member in chaos.replicas:
                member.end()
            if chaos._connection is not None:
                chaos._connection.terminate()
        await asyncio.gather(*tasks, return_exceptions=True)
        await kafka_wire.close()
        await postgres_wire.close()
        await stack.aclose()
        await asyncio.gather(asyncio.to_thread(kafka.stop), asyncio.to_thread(postgres.stop))


async def run(
    kills: int,
    seed: int,
    logs: Path,
    *,
    replicas: int = 2,
    keys: int = 60,
    per_second: float = 550.0,
    tell: Callable[[Hit], None] = lambda hit: None,
) -> Outcome:
    """That many hits.

    Raises:
        RuntimeError: a replica gave up, or the service did not recover.
    """
    outcome = Outcome(seed)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # It tells every cut several times over.
    async with prepared(seed, replicas, keys, per_second, logs) as chaos:
        started = monotonic()
        stop = asyncio.Event()
        loading = asyncio.create_task(chaos.load.run(stop))
        try:
            await _settle(chaos, dict.fromkeys(chaos.load.made, 1), "the service did not start")
            for number, kind in enumerate(deck(kills, seed), 1):
                await asyncio.sleep(chaos.random.uniform(0.0, 1.0))
                outcome.hits.append(await chaos.hit(number, kind))
                tell(outcome.hits[-1])
                if loading.done():
                    loading.result()
        finally:
            stop.set()
        await loading
        outcome.seconds = monotonic() - started
        with suppress(RuntimeError):  # What is missing is counted as lost.
            await _settle(chaos, chaos.load.made, "not everything arrived")
        await chaos.count_effects(outcome)
        await _empty(chaos)
        await chaos.count(outcome)
    return outcome


async def _settle(chaos: Chaos, wanted: dict[str, int], otherwise: str) -> None:
    if await chaos.reached(wanted, RECOVERY_LIMIT_SECONDS) is None:
        raise RuntimeError(f"{otherwise} within {RECOVERY_LIMIT_SECONDS:g} s: {await chaos.applied()}")


async def _empty(chaos: Chaos) -> None:
    """Wait until the relay has deleted what it sent: the last batch may be unknown and go out again."""
    until = monotonic() + 30
    while monotonic() < until:
        rows = await chaos.ask("SELECT count(*) AS n FROM outbox")
        if rows and not rows[0]["n"]:
            return
        await asyncio.sleep(0.1)
