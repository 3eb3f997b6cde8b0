"""What we owe remote systems: noted, called outside any transaction, noted again.

`owe` stands in the transaction of what makes us owe it. A worker claims what is ready, earliest deadline
first, and notes the attempt under a lease; then it calls; then it stores the outcome together with what
the completion hook makes of it, events included. A crash between any two of these leaves a note of what
may have happened, and `shared.repeating` says what follows from it.

Per key only the oldest runs, and a key takes the earliest due time of what it holds. Due times, pauses
and quiet periods are business time; leases are real time.

The promises that would be expensive to break: an unguarded call is never repeated without knowing that
the one before had no effect, and what is owed is never lost.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

import msgspec
import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from shared.breaker import Breaker, Look, blames_account, work_name
from shared.cases import close_cases, open_case
from shared.clock import monotonic
from shared.database import Conflict, Database, Disconnected, Locked, Rows, patiently
from shared.errors import NotLive, Refused, Transient, UnknownOutcome
from shared.events.control import OperatorSettledObligation
from shared.handbook import entry
from shared.handlers import Received
from shared.leases import Lease, working_under
from shared.lifecycle import run_loops
from shared.money import Money
from shared.operations import listening
from shared.outbox import Outbox, Transaction
from shared.repeating import (
    Abandoned,
    Absent,
    Answered,
    Done,
    Effect,
    Ended,
    GivenUp,
    Happened,
    Known,
    Manner,
    Next,
    Outcome,
    Retry,
    Standing,
    Step,
    what_next,
)
from shared.telemetry import Metrics, Readings, end_stage, is_sampled, start_stage

__all__ = [
    "Absent",
    "Attempt",
    "Done",
    "GivenUp",
    "Happened",
    "Kind",
    "Obligations",
    "Owed",
    "Retry",
    "Settled",
    "owe",
    "owe_all",
    "settle_by_person",
]

log = structlog.get_logger(__name__)

P = TypeVar("P", bound=msgspec.Struct)

_KEEP: Final = timedelta(days=90)
_read_outcome: Final = msgspec.json.Decoder(Outcome).decode


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a call or a read-back is told beside the payload."""

    obligation_id: int
    key: str
    account: str
    about: str
    due_at: datetime
    number: int
    """1 for the first attempt; reads count too."""
    unsure_at: datetime | None
    """Since when an earlier call may have had its effect unseen."""


@dataclass(frozen=True, slots=True)
class Settled(Generic[P]):
    """What became of an obligation, for its completion hook."""

    obligation_id: int
    key: str
    account: str
    about: str
    payload: P
    due_at: datetime
    outcome: Outcome
    attempts: int
    traceparent: str | None
    """The trace that owed it, for the events published now."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[P]):
    """One kind of obligation: what is sent, how it may be repeated, and what follows from its outcome.

    `perform` makes the call, within the call budget, and returns what is to be kept as JSON. It raises
    `Transient` when the call had no effect and never will, `Refused`, or `UnknownOutcome`; anything else
    counts as unknown. `read` looks at the remote system: `Happened` or `Absent`; for an overwriting
    operation `Happened` means that it shows the payload's state. `settle` runs once, in the transaction
    that closes the obligation (and once per state that was sent, of an overwriting one that has been
    replaced meanwhile, and again when a person lets one that was given up be sent once more). An exception
    there keeps the outcome and is tried again.

    Raises:
        ValueError: a guarded or overwriting kind without `read`, or a quiet period below the time-out.
    """

    name: str
    effect: Effect
    payload: type[P]
    perform: Callable[[P, Attempt], Awaitable[Any]]
    settle: Callable[[Settled[P], Transaction], Awaitable[None]]
    read: Callable[[P, Attempt], Awaitable[Happened | Absent]] | None = None
    timeout_seconds: float = 30.0
    """The client's own time-out of the call (real time)."""
    quiet_seconds: float = 0.0
    """At least the time-out plus what the remote system may take to show an effect."""
    retry: Retry = field(default_factory=Retry)
    attempt_seconds: float = 360.0
    """Bounds one attempt with all its waiting for the call budget (real time)."""
    money_at_risk: Callable[[P], Money | None] = lambda payload: None
    """What its cases say is at stake."""
    unknown_case: str = "obligation-unknown"
    given_up_case: str | None = "obligation-given-up"
    """`None` where `settle` itself sees to what could not be done."""

    def __post_init__(self) -> None:
        if self.effect != "unguarded" and self.read is None:
            raise ValueError(f"{self.name} is {self.effect}: it needs `read`, the look at the remote system")
        if self.read is not None and self.effect != "guarded" and self.quiet_seconds < self.timeout_seconds:
            raise ValueError(
                f"{self.name}: a quiet period of {self.quiet_seconds:g} s is shorter than the time-out of "
                f"{self.timeout_seconds:g} s: a call that is still under way would count as absent"
            )
        for code in filter(None, (self.unknown_case, self.given_up_case)):
            entry(code)

    @property
    def manner(self) -> Manner:
        """As far as repeating is concerned."""
        return Manner(self.effect, self.read is not None, self.quiet_seconds, self.retry)


@dataclass(frozen=True, slots=True)
class Owed:
    """One obligation, before it has an id."""

    kind: Kind[Any]
    key: str
    """What stays in order: one object of the remote system, such as `order/worten-pt/W-1`."""
    payload: msgspec.Struct
    """Never personal data, save in order-ingestor's own tables."""
    due_at: datetime
    account: str
    """Whose call budget and breaker: `marketplace/shop`, or the SFCC instance."""
    about: str
    """The object for people, as in cases."""
    not_before: datetime | None = None
    traceparent: str | None = None


async def owe(
    tx: Transaction,
    kind: Kind[P],
    *,
    key: str,
    payload: P,
    due_at: datetime,
    account: str,
    about: str,
    not_before: datetime | None = None,
    traceparent: str | None = None,
) -> None:
    """Owe something from this transaction's commit on; see `Owed` and `owe_all`."""
    await owe_all(tx, [Owed(kind, key, payload, due_at, account, about, not_before, traceparent)])


async def owe_all(tx: Transaction, owed: Sequence[Owed]) -> None:
    """Owe many things at once, in their order.

    What is owed of an overwriting kind replaces the newest of its key, if that is of the same kind and
    not done yet: only the current state is ever sent. The one that is replaced keeps its place, and the
    earlier of the two due times.
    """
    if not owed:
        return
    earliest: dict[str, datetime] = {}
    for one in owed:
        earliest[one.key] = min(one.due_at, earliest.get(one.key, one.due_at))
    keys = sorted(earliest)
    # Keys are locked in their order, here as everywhere.
    await tx.execute(
        """INSERT INTO obligation_keys AS k (key, due_at)
           SELECT * FROM unnest($1::text[], $2::timestamptz[]) AS n(key, due_at) ORDER BY key
           ON CONFLICT (key) DO UPDATE SET due_at = least(k.due_at, excluded.due_at)""",
        keys,
        [earliest[key] for key in keys],
    )
    pending: list[Owed] = []
    for one in owed:
        if one.kind.effect == "overwriting":
            await _insert(tx, pending)
            pending = []
            if await _replace(tx, one):
                continue
        pending.append(one)
    await _insert(tx, pending)
    await _refresh_keys(tx, keys, None, tx.time)


async def _insert(tx: Transaction, owed: Sequence[Owed]) -> None:
    if not owed:
        return
    await tx.execute(
        """INSERT INTO obligations (kind, key, account, about, payload, due_at, not_before, traceparent, owed_at, since)
           SELECT kind, key, account, about, payload::jsonb, due_at, not_before, traceparent, $9, $9
           FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
                       $7::timestamptz[], $8::text[]) WITH ORDINALITY
                AS n(kind, key, account, about, payload, due_at, not_before, traceparent, place) ORDER BY place""",
        [one.kind.name for one in owed],
        [one.key for one in owed],
        [one.account for one in owed],
        [one.about for one in owed],
        [_json(one.payload) for one in owed],
        [one.due_at for one in owed],
        [one.not_before or tx.time for one in owed],
        [one.traceparent for one in owed],
        tx.time,
    )


async def _replace(tx: Transaction, one: Owed) -> bool:
    """Replace the newest obligation of the key, if that is of the same overwriting kind.

    While an attempt at it is under way, what replaces it is kept beside it until that has ended.
    """
    return bool(
        await tx.execute(
            """WITH newest AS (
                   SELECT o.id, o.kind, k.holder IS NOT NULL AND k.head = o.id AS running
                   FROM obligation_keys AS k JOIN obligations AS o ON o.key = k.key AND o.closed_at IS NULL
                   WHERE k.key = $1 ORDER BY o.id DESC LIMIT 1)
               UPDATE obligations AS o SET
                   next_payload = CASE WHEN running THEN $3::jsonb END,
                   next_due_at = CASE WHEN running THEN least(coalesce(next_due_at, $4), $4) END,
                   next_not_before = CASE WHEN running THEN $5::timestamptz END,
                   payload = CASE WHEN running THEN payload ELSE $3::jsonb END,
                   due_at = CASE WHEN running THEN due_at ELSE least(due_at, $4) END,
                   not_before = CASE WHEN running THEN not_before ELSE least(not_before, $5) END,
                   since = CASE WHEN running THEN since ELSE $6 END,
                   step = CASE WHEN running THEN step ELSE 'call' END
               FROM newest AS n WHERE o.id = n.id AND n.kind = $2 AND o.step <> 'settle'""",
            one.key,
            one.kind.name,
            _json(one.payload),
            one.due_at,
            one.not_before or tx.time,
            tx.time,
        )
    )


async def _refresh_keys(rows: Rows, keys: Sequence[str], holder: str | None, now: datetime) -> None:
    """Let each key show its head and the earliest due time of what it holds; an empty one goes.

    The caller holds the keys' locks. Keys that somebody other than `holder` has leased are left alone.
    """
    await rows.execute(
        """UPDATE obligation_keys AS k
           SET head = h.id, kind = h.kind, account = h.account, due_at = d.due_at, holder = NULL, leased_until = NULL,
               not_before = CASE WHEN h.state = 'open' THEN h.not_before ELSE 'infinity' END,
               ready = h.state = 'open' AND h.not_before <= $2
           FROM unnest($1::text[]) AS n(key)
           CROSS JOIN LATERAL (SELECT id, kind, account, state, not_before FROM obligations AS o
                               WHERE o.key = n.key AND closed_at IS NULL ORDER BY id LIMIT 1) AS h
           CROSS JOIN LATERAL (SELECT min(due_at) AS due_at FROM obligations AS o
                               WHERE o.key = n.key AND closed_at IS NULL) AS d
           WHERE k.key = n.key AND (k.holder IS NULL OR k.holder = $3)""",
        keys,
        now,
        holder,
    )
    await rows.execute(
        """DELETE FROM obligation_keys AS k WHERE key = ANY($1) AND (holder IS NULL OR holder = $2)
           AND NOT EXISTS (SELECT 1 FROM obligations AS o WHERE o.key = k.key AND closed_at IS NULL)""",
        keys,
        holder,
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# The worker -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pace:
    """How a worker behaves; real time."""

    workers: int = 32
    """Attempts under way at once."""
    per_account: int = 16
    """Of which for one account, so that a slow shop leaves room for the others."""
    lease_seconds: float = 15.0
    idle_seconds: float = 0.2
    rescue_seconds: float = 2.0
    drain_seconds: float = 15.0
    settle_batch: int = 250


@dataclass(frozen=True, slots=True)
class Claimed:
    """An obligation whose attempt is noted."""

    id: int
    kind: Kind[Any]
    key: str
    account: str
    about: str
    payload: str
    step: Step
    number: int
    failures: int
    due_at: datetime
    key_due_at: datetime
    since: datetime
    unsure_at: datetime | None
    outcome: Outcome | None
    traceparent: str | None
    started_at: datetime
    lease: Lease
    heard: set[str] = field(default_factory=set)
    """What the remote systems granted to its calls, for the breaker."""

    @property
    def standing(self) -> Standing:
        """As far as the rule is concerned."""
        refusal = self.outcome if self.step == "read" and isinstance(self.outcome, GivenUp) else None
        return Standing(self.step, self.started_at, self.since, self.due_at, self.unsure_at, self.failures, refusal)


@dataclass(frozen=True, slots=True)
class _Deferred:
    """How an attempt ended, whose completion hook failed."""

    ended: Ended


Ending = Ended | _Deferred


class _NotSent(Transient):
    """Nothing was sent, for a reason of ours: it says nothing about the account."""


class _Unexpected(UnknownOutcome):
    """A mistake of ours in the middle of a call: it says nothing about the account either."""


@dataclass(slots=True)
class Counts:
    """What one worker did since it started; telemetry reads it, tests wait for it."""

    attempts: int = 0
    done: int = 0
    given_up: int = 0
    unknown: int = 0
    rescued: int = 0
    late: int = 0
    hooks_failed: int = 0


class Obligations:
    """The worker of one service's obligations; `holder` is unique per process start."""

    def __init__(
        self,
        outbox: Outbox,
        kinds: Iterable[Kind[Any]],
        holder: str,
        *,
        breaker: Breaker | None = None,
        pace: Pace | None = None,
        beat: Callable[[], None] = lambda: None,
        spread: Callable[[], float] = lambda: random.uniform(0.5, 1.5),
    ) -> None:
        self.outbox = outbox
        self.kinds: dict[str, Kind[Any]] = {}
        for kind in kinds:
            if kind.name in self.kinds:
                raise ValueError(f"two kinds of obligation named {kind.name}")
            self.kinds[kind.name] = kind
        self.holder = holder
        self.breaker = breaker
        self.pace = pace or Pace()
        self.beat = beat
        self.counts = Counts()
        self._spread = spread
        self._running: dict[tuple[int, int], tuple[Claimed, asyncio.Task[None]]] = {}
        self._ended: list[tuple[Claimed, Ending]] = []
        self._something_ended = asyncio.Event()
        self._room = asyncio.Event()
        self._claims_over = False
        self._unsure_until = float("-inf")

    @property
    def database(self) -> Database:
        """Where the obligations are."""
        return self.outbox.database

    async def run(self, stop: asyncio.Event) -> None:
        """Do what is owed until `stop`; then end what is under way, bounded."""
        self._claims_over = False
        try:
            await run_loops(
                stop, {"claim": self._claim_loop, "settle": self._settle_loop, "tend obligations": self._tend_loop}
            )
        finally:
            for _, task in self._running.values():
                task.cancel()

    # Note ---------------------------------------------------------------------------------------

    async def _claim_loop(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                self.beat()
                self._room.clear()
                started = 0
                try:
                    if monotonic() < self._unsure_until:
                        await self._release_unstarted()
                    claimed = await self.claim()
                    for one in claimed:
                        self._start(one)
                    started = len(claimed)
                except Disconnected as error:
                    # Whether the claim was committed is unknown, or yet to be; what it noted never started.
                    self._unsure_until = monotonic() + self.pace.lease_seconds
                    log.warning("claim_failed", reason=str(error))
                except Transient as error:
                    log.info("claim_failed", reason=str(error))
                if not started:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self.pace.idle_seconds):
                            await (stop if self._free <= 0 else self._room).wait()
                elif self._free <= 0:
                    await self._wait_for_room(stop)
            await self._drain()
        finally:
            self._claims_over = True

    @property
    def _free(self) -> int:
        return self.pace.workers - len(self._running)

    async def _wait_for_room(self, stop: asyncio.Event) -> None:
        while self._free <= 0 and not stop.is_set():
            self.beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.idle_seconds):
                    await self._room.wait()
            self._room.clear()

    async def claim(self, limit: int | None = None) -> list[Claimed]:
        """Note attempts at what is ready, earliest deadline first; at most `limit`, or what there is room for."""
        room = self._free if limit is None else limit
        if room <= 0:
            return []
        asked = monotonic()
        await self._make_ready()
        look = await self._look()
        busy = Counter(name for claimed, _ in self._running.values() for name in self._counted(claimed))
        full = self._full(look, busy)
        async with self.database.transaction() as rows:
            # The time is read before the claim: what was owed by then is seen, and quiet periods count from later.
            now = self.outbox.clock.now()
            candidates = await rows.fetch(
                """WITH RECURSIVE accounts AS (
                       (SELECT account FROM obligation_keys WHERE ready AND holder IS NULL ORDER BY account LIMIT 1)
                       UNION ALL
                       SELECT (SELECT k.account FROM obligation_keys AS k WHERE ready AND holder IS NULL
                               AND k.account > a.account ORDER BY k.account LIMIT 1)
                       FROM accounts AS a WHERE a.account IS NOT NULL)
                   SELECT k.key, a.account, k.kind FROM accounts AS a
                   CROSS JOIN LATERAL (SELECT key, due_at, kind FROM obligation_keys AS k
                                       WHERE ready AND holder IS NULL AND k.account = a.account AND kind = ANY($1)
                                         AND k.account || $4 || kind <> ALL($2)
                                       ORDER BY due_at, key LIMIT $3) AS k
                   WHERE a.account IS NOT NULL AND a.account <> ALL($2) ORDER BY k.due_at, k.key""",
                list(self.kinds),
                sorted(full),
                room + 16,
                work_name("", self.outbox.service, ""),
            )
            keys = self._within_bounds(candidates, busy, look, room + 16)
            if not keys:
                return []
            locked = await rows.fetch(
                """SELECT key FROM obligation_keys WHERE key = ANY($1) AND ready AND holder IS NULL
                   ORDER BY due_at, key LIMIT $2 FOR UPDATE SKIP LOCKED""",
                keys,
                room,
            )
            found = await rows.fetch(
                """WITH taken AS (
                       UPDATE obligation_keys
                       SET holder = $2, leased_until = clock_timestamp() + make_interval(secs => $3)
                       WHERE key = ANY($1) RETURNING head, due_at),
                   noted AS (
                       UPDATE obligations AS o SET attempts = attempts + 1 FROM taken AS t WHERE o.id = t.head
                       RETURNING o.*, t.due_at AS key_due_at),
                   written AS (
                       INSERT INTO obligation_attempts (obligation_id, number, step, holder, started_at)
                       SELECT id, attempts, step, $2, $4 FROM noted)
                   SELECT * FROM noted ORDER BY key_due_at, key""",
                [row["key"] for row in locked],
                self.holder,
                self.pace.lease_seconds,
                now,
            )
        self.counts.attempts += len(found)
        return [self._claimed(row, now, asked + self.pace.lease_seconds) for row in found]

    async def _look(self) -> Look:
        """What may be called, with the probes of what we have ready work for."""
        if self.breaker is None:
            return Look()
        look = await self.breaker.look()
        if not look.due:
            return look
        ready = await self.database.fetch(
            "SELECT DISTINCT account, kind FROM obligation_keys WHERE ready AND holder IS NULL AND kind = ANY($1)",
            list(self.kinds),
        )
        wanted: set[str] = set()
        for row in ready:
            closed = look.closed_off.intersection(self.breaker.names(row["account"], self.outbox.service, row["kind"]))
            if closed <= look.due:
                wanted |= closed
        return await self.breaker.probe(look, wanted)

    def _counted(self, claimed: Claimed) -> tuple[str, ...]:
        """Under which names an attempt that is under way counts."""
        if self.breaker is None:
            return (claimed.account,)
        return claimed.account, work_name(claimed.account, self.outbox.service, claimed.kind.name)

    def _most(self, look: Look, name: str) -> int:
        """How many attempts at once for an account, or for one kind of work for it."""
        if look.is_calm or self.breaker is None:
            return self.pace.per_account
        return look.most(self.breaker.names(name), self.pace.per_account)

    def _full(self, look: Look, busy: Counter[str]) -> set[str]:
        """The accounts and works that take no more now."""
        names = set(busy)
        if self.breaker is not None and not look.is_calm:
            names |= look.closed_off | self.breaker.keys.keys()
        return {name for name in names if busy[name] >= self._most(look, name)}

    def _within_bounds(
        self, candidates: Sequence[Mapping[str, Any]], busy: Counter[str], look: Look, room: int
    ) -> list[str]:
        """As many of the candidates as there is room for, in total, per account, and per kind of work for it."""
        counted = Counter(busy)
        most: dict[str, int] = {}
        keys: list[str] = []
        for row in candidates:
            names = (row["account"], work_name(row["account"], self.outbox.service, row["kind"]))
            for name in names:
                if name not in most:
                    most[name] = self._most(look, name)
            if all(counted[name] < most[name] for name in names):
                counted.update(names)
                keys.append(row["key"])
                if len(keys) >= room:
                    break
        return keys

    def _claimed(self, row: Mapping[str, Any], now: datetime, lease_ends: float) -> Claimed:
        return Claimed(
            id=row["id"],
            kind=self.kinds[row["kind"]],
            key=row["key"],
            account=row["account"],
            about=row["about"],
            payload=row["payload"],
            step=row["step"],
            number=row["attempts"],
            failures=row["failures"],
            due_at=row["due_at"],
            key_due_at=row["key_due_at"],
            since=row["since"],
            unsure_at=row["unsure_at"],
            outcome=None if row["outcome"] is None else _read_outcome(row["outcome"]),
            traceparent=row["traceparent"],
            started_at=now,
            lease=Lease(f"obligation {row['id']}", lease_ends),
        )

    async def _make_ready(self) -> None:
        """Mark the keys whose head's time has come, all of them, before anything is claimed."""
        more = True
        while more:
            async with self.database.transaction() as rows:
                count = await rows.execute(
                    """UPDATE obligation_keys SET ready = true WHERE key IN (
                           SELECT key FROM obligation_keys WHERE NOT ready AND holder IS NULL AND not_before <= $1
                           ORDER BY not_before LIMIT 2000 FOR UPDATE SKIP LOCKED)""",
                    self.outbox.clock.now(),
                )
            more = count == 2000

    async def _release_unstarted(self) -> None:
        """After a claim whose commit is unknown: end the attempts that it noted and nobody began."""
        async with self.outbox.transaction(end_blockers=True) as tx:
            rows = await _held_rows(
                tx,
                "k.holder = $1 AND k.key <> ALL($2)",
                self.holder,
                [claimed.key for claimed, _ in self._running.values()],
            )
            unstarted = [
                (self._claimed(row, self.outbox.clock.now(), 0.0), _NotSent("claimed but not begun"))
                for row in rows
                if row["kind"] in self.kinds
            ]
            if unstarted:
                await self._settle_in(tx, unstarted)

    # Call ---------------------------------------------------------------------------------------

    def _start(self, claimed: Claimed) -> None:
        task = asyncio.create_task(self._attempt(claimed))
        self._running[claimed.id, claimed.number] = claimed, task

    async def _attempt(self, claimed: Claimed) -> None:
        if claimed.traceparent is None or not is_sampled(claimed.traceparent):
            ended = await self.attempt(claimed)
        else:
            # What the call causes is part of the trace that owed it.
            span = start_stage(
                f"{claimed.step} {claimed.kind.name}",
                claimed.traceparent,
                SpanKind.INTERNAL,
                attributes={"bridge.obligation.id": claimed.id, "bridge.obligation.attempt": claimed.number},
            )
            with trace.use_span(span, end_on_exit=False):
                ended = await self.attempt(claimed)
            end_stage(span, ended if isinstance(ended, BaseException) else None)
        self._ended.append((claimed, ended))
        self._something_ended.set()

    async def attempt(self, claimed: Claimed) -> Ended:
        """Call, or read back, outside any transaction; how that ended. Never raises."""
        if claimed.step == "settle":
            assert claimed.outcome is not None  # that is what is to be stored
            return Known(claimed.outcome)
        left = False
        try:
            payload = msgspec.json.decode(claimed.payload, type=claimed.kind.payload)
            told = Attempt(
                claimed.id,
                claimed.key,
                claimed.account,
                claimed.about,
                claimed.key_due_at,
                claimed.number,
                claimed.unsure_at,
            )
            claimed.lease.check()
            left = True
            with working_under(claimed.lease), listening(claimed.heard):
                async with asyncio.timeout(claimed.kind.attempt_seconds):
                    if claimed.step == "read":
                        assert claimed.kind.read is not None  # else this step is never chosen
                        return await claimed.kind.read(payload, told)
                    result = await claimed.kind.perform(payload, told)
                    return Answered(msgspec.to_builtins(result))
        except (Refused, Transient, UnknownOutcome) as error:
            return error
        except (Exception, asyncio.CancelledError) as error:
            if not isinstance(error, (TimeoutError, asyncio.CancelledError)):
                # Its text may carry what the answer carried, personal data too: only its type is kept.
                log.error("unexpected_error", operation=claimed.kind.name, exc_info=error)
            if not left or claimed.lease.waits or claimed.step == "read":
                return _NotSent(f"{type(error).__name__} before anything was sent")
            return _Unexpected(f"{type(error).__name__} during the call", operation=claimed.kind.name)

    async def _drain(self) -> None:
        """Let what is under way end; what does not in time is cut off, and noted as unknown."""
        until = monotonic() + self.pace.drain_seconds
        while self._running and monotonic() < until:
            await asyncio.wait([task for _, task in self._running.values()], timeout=0.2)
            await asyncio.sleep(0.02)
        for _, task in list(self._running.values()):
            task.cancel()

    # Note again ---------------------------------------------------------------------------------

    async def _settle_loop(self, stop: asyncio.Event) -> None:
        while not (stop.is_set() and self._claims_over and not self._running):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.idle_seconds):
                    await self._something_ended.wait()
            self._something_ended.clear()
            while batch := self._ended[: self.pace.settle_batch]:
                del self._ended[: len(batch)]
                await self._settle_patiently(batch)
                for claimed, _ in batch:
                    self._running.pop((claimed.id, claimed.number), None)
                self._room.set()

    async def _settle_patiently(self, batch: Sequence[tuple[Claimed, Ending]]) -> None:
        """Store outcomes until they are stored; one whose completion hook fails is kept for later."""
        while True:
            try:
                return await self.settle(batch)
            except (Conflict, Locked, Disconnected) as error:
                # Committed or not: the attempt's number tells, so doing it again is harmless.
                log.warning("outcomes_not_stored", count=len(batch), reason=str(error))
                await asyncio.sleep(0.5)
            except Exception as error:
                if len(batch) > 1:
                    for one in batch:
                        await self._settle_patiently([one])
                    return
                [(claimed, ended)] = batch
                self.counts.hooks_failed += 1
                log.error("completion_failed", operation=claimed.kind.name, exc_info=error)
                await asyncio.sleep(0.1)
                batch = [(claimed, ended if isinstance(ended, _Deferred) else _Deferred(ended))]

    async def settle(self, batch: Sequence[tuple[Claimed, Ending]]) -> None:
        """Store how attempts ended, with what their completion hooks do, in one transaction."""
        if not batch:
            return

        async def once(end_blockers: bool) -> Counts:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                return await self._settle_in(tx, batch)

        self._add(await patiently(once))

    def _add(self, counts: Counts) -> None:
        for name in Counts.__dataclass_fields__:
            setattr(self.counts, name, getattr(self.counts, name) + getattr(counts, name))

    async def _settle_in(self, tx: Transaction, batch: Sequence[tuple[Claimed, Ending]]) -> Counts:
        counts = Counts()
        await tx.execute(
            "SELECT 1 FROM obligation_keys WHERE key = ANY($1) ORDER BY key FOR UPDATE",
            sorted({claimed.key for claimed, _ in batch}),
        )
        found = await tx.fetch(
            """SELECT o.id, o.state, o.attempts, o.next_payload, o.next_due_at, o.next_not_before, k.holder, k.head
               FROM obligations AS o JOIN obligation_keys AS k ON k.key = o.key WHERE o.id = ANY($1)""",
            [claimed.id for claimed, _ in batch],
        )
        rows = {row["id"]: row for row in found}
        changes: list[_Change] = []
        now = tx.time
        for claimed, ended in batch:
            row = rows.get(claimed.id)
            held = row is not None and row["attempts"] == claimed.number
            ours = row is not None and held and row["state"] == "open" and row["holder"] == self.holder
            answers_late = row is not None and held and row["state"] == "unknown" and row["holder"] is None
            if row is None or not (ours or answers_late):
                counts.late += 1
                await self._follow_late(tx, claimed, ended)
                continue
            following = self._following(claimed, ended, now)
            change = _Change.of(claimed, following, row, now)
            if following.state == "unknown" and answers_late:
                continue  # As unknown as before; the case stands.
            changes.append(change)
            if answers_late:
                await self._close_case(tx, claimed, "The remote system's late answer.")
            await self._follow(tx, claimed, following, row, counts)
        await self._write(tx, batch, changes, now)
        if self.breaker is not None:
            await self._tell_breaker(tx, batch, self.breaker)
        return counts

    async def _follow_late(self, tx: Transaction, claimed: Claimed, ended: Ending) -> None:
        """An abandoned attempt ended after all, and somebody else has gone on meanwhile.

        What is guarded was refused there, what is unguarded waits for a person. But an old state that was
        overwritten so late may have replaced a newer one, so the newest is owed again.
        """
        if claimed.kind.effect != "overwriting" or not isinstance(ended, (Answered, UnknownOutcome)):
            return
        abandoned = await tx.fetchval(
            "SELECT result = 'abandoned' FROM obligation_attempts WHERE obligation_id = $1 AND number = $2",
            claimed.id,
            claimed.number,
        )
        if not abandoned:
            return  # It was stored before; the commit's answer was lost.
        await tx.execute(
            "INSERT INTO obligation_keys (key, due_at) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET key = $1",
            claimed.key,
            claimed.due_at,
        )
        await tx.execute(
            """INSERT INTO obligations (kind, key, account, about, payload, due_at, not_before, owed_at, since,
                                        unsure_at, traceparent)
               SELECT kind, key, account, about, coalesce(next_payload, payload), due_at, $3, $3, $3, $3, traceparent
               FROM obligations WHERE key = $1 AND kind = $2 ORDER BY id DESC LIMIT 1""",
            claimed.key,
            claimed.kind.name,
            tx.time,
        )
        await _refresh_keys(tx, [claimed.key], None, tx.time)

    def _following(self, claimed: Claimed, ended: Ending, now: datetime) -> Next:
        if not isinstance(ended, _Deferred):
            return what_next(claimed.kind.manner, claimed.standing, ended, now, self._spread())
        following = what_next(claimed.kind.manner, claimed.standing, ended.ended, now, self._spread())
        if following.outcome is None or following.state == "open":
            return following
        pause = timedelta(seconds=claimed.kind.retry.pause_seconds(claimed.failures))
        return Next(
            "open",
            now + pause,
            "settle",
            following.unsure_at,
            claimed.failures + 1,
            following.outcome,
            reason="the outcome is known, its completion failed",
        )

    async def _follow(
        self, tx: Transaction, claimed: Claimed, following: Next, row: Mapping[str, Any], counts: Counts
    ) -> None:
        """Hooks and cases of one obligation that is closed or needs a person."""
        if following.state == "unknown":
            counts.unknown += 1
            await self._open_case(tx, claimed, claimed.kind.unknown_case, following.reason)
        elif following.state != "open":
            assert following.outcome is not None  # what is closed has one
            await _complete(tx, claimed, following.outcome)
            if isinstance(following.outcome, Done):
                counts.done += 1
            else:
                counts.given_up += 1
                if claimed.kind.given_up_case is not None and row["next_payload"] is None:
                    await self._open_case(tx, claimed, claimed.kind.given_up_case, following.reason)

    async def _open_case(self, tx: Transaction, claimed: Claimed, code: str, reason: str) -> None:
        marketplace, _, shop = claimed.account.partition("/")
        await open_case(
            tx,
            code,
            about=claimed.about,
            cause=cause_of(tx.service, claimed.id),
            due_at=claimed.key_due_at,
            money_at_risk=claimed.kind.money_at_risk(msgspec.json.decode(claimed.payload, type=claimed.kind.payload)),
            marketplace=marketplace if shop else None,
            shop=shop or None,
            facts={
                "operation": claimed.kind.name,
                "obligation": str(claimed.id),
                "attempts": str(claimed.number),
                "reason": reason[:1000],
                "attempts before": await _history(tx, claimed.id, claimed.number),
                "quiet period": f"{claimed.kind.quiet_seconds:g} s",
            },
        )

    async def _close_case(self, tx: Transaction, claimed: Claimed, explanation: str) -> None:
        await close_cases(tx, cause=cause_of(tx.service, claimed.id), outcome="cause-fixed", explanation=explanation)

    async def _write(
        self, tx: Transaction, batch: Sequence[tuple[Claimed, Ending]], changes: Sequence[_Change], now: datetime
    ) -> None:
        ends = [(claimed.id, claimed.number, *_result_of(ended)) for claimed, ended in batch]
        for (claimed, _), (_, _, result, _) in zip(batch, ends, strict=True):
            Metrics.attempts.add(1, {"operation": claimed.kind.name, "step": claimed.step, "result": result})
        await tx.execute(
            """UPDATE obligation_attempts AS a SET ended_at = $5, result = n.result, reason = n.reason
               FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) AS n(id, number, result, reason)
               WHERE a.obligation_id = n.id AND a.number = n.number
                 AND (a.ended_at IS NULL OR a.result = 'abandoned')""",
            *(list(column) for column in zip(*ends, strict=True)),
            now,
        )
        # A shop may be observed for months: of being put off the last record is kept, while nothing has followed it.
        await tx.execute(
            """DELETE FROM obligation_attempts AS a USING unnest($1::bigint[], $2::int[]) AS n(id, number)
               WHERE a.obligation_id = n.id AND a.number < n.number AND a.result = 'observed'""",
            [claimed.id for claimed, _ in batch],
            [claimed.number for claimed, _ in batch],
        )
        if not changes:
            return
        await tx.execute(
            """UPDATE obligations AS o
               SET state = n.state, step = n.step, not_before = n.not_before, unsure_at = n.unsure_at,
                   failures = n.failures, outcome = n.outcome::jsonb, since = coalesce(n.since, o.since),
                   due_at = n.due_at, payload = coalesce(n.payload::jsonb, o.payload), closed_at = n.closed_at,
                   next_payload = CASE WHEN n.step = 'settle' THEN o.next_payload END,
                   next_due_at = CASE WHEN n.step = 'settle' THEN o.next_due_at END,
                   next_not_before = CASE WHEN n.step = 'settle' THEN o.next_not_before END
               FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::int[],
                           $7::text[], $8::timestamptz[], $9::timestamptz[], $10::text[], $11::timestamptz[])
                    AS n(id, state, step, not_before, unsure_at, failures, outcome, since, due_at, payload, closed_at)
               WHERE o.id = n.id""",
            [c.id for c in changes],
            [c.state for c in changes],
            [c.step for c in changes],
            [c.not_before for c in changes],
            [c.unsure_at for c in changes],
            [c.failures for c in changes],
            [None if c.outcome is None else _json(c.outcome) for c in changes],
            [c.since for c in changes],
            [c.due_at for c in changes],
            [c.payload for c in changes],
            [None if c.state in ("open", "unknown") else now for c in changes],
        )
        await _refresh_keys(tx, [c.key for c in changes], self.holder, now)

    async def _tell_breaker(self, tx: Transaction, batch: Sequence[tuple[Claimed, Ending]], breaker: Breaker) -> None:
        told: dict[str, list[tuple[Claimed, BaseException | None]]] = {}
        for claimed, ended in batch:
            if isinstance(ended, BaseException) and not isinstance(ended, (_NotSent, _Unexpected)):
                told.setdefault(claimed.account, []).append((claimed, ended))
            elif isinstance(ended, (Answered, Happened, Absent)):
                told.setdefault(claimed.account, []).append((claimed, None))
        for account, ends in sorted(told.items()):
            heard = set[str]().union(*(claimed.heard for claimed, _ in ends))
            answered = Counter(
                claimed.kind.name for claimed, error in ends if error is None or isinstance(error, Refused)
            )
            for work, count in sorted(answered.items()):
                await breaker.note(tx, account, None, times=count, work=work, heard=heard)
            refused = {
                (claimed.kind.name, error.operation, error.key): error
                for claimed, error in ends
                if isinstance(error, Refused) and blames_account(error)
            }
            for (work, _, _), refusal in sorted(refused.items()):
                await breaker.note(tx, account, refusal, work=work)
            unanswered = [(claimed, error) for claimed, error in ends if not isinstance(error, Refused | None)]
            # Who answers some calls is there; only a moment after an outage every failure counts.
            if unanswered and (not answered or breaker.ramping(account)):
                silent = [(claimed, error) for claimed, error in unanswered if blames_account(error)]
                claimed, error = (silent or unanswered)[-1]
                await breaker.note(tx, account, error, times=len(silent), work=claimed.kind.name, heard=heard)

    # Leases -------------------------------------------------------------------------------------

    async def _tend_loop(self, stop: asyncio.Event) -> None:
        """Extend our leases, rescue what others abandoned; now and then measure, and throw old things away."""
        prune_due = measure_due = 0.0
        told = Readings()
        while not (stop.is_set() and self._claims_over and not self._running):
            try:
                await self.extend_leases()
                await self.rescue()
                if self.breaker is not None:
                    await self.breaker.tend(self.outbox)
                if monotonic() >= measure_due:
                    measure_due = monotonic() + 15.0
                    await measure_owed(self.database, self.outbox.clock.now(), told)
                if monotonic() >= prune_due:
                    prune_due = monotonic() + 600.0
                    async with self.database.transaction() as rows:
                        await prune(rows, self.outbox.clock.now() - _KEEP)
            except Transient as error:
                log.info("tending_failed", reason=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self.pace.rescue_seconds):
                    await (asyncio.sleep(0.2) if stop.is_set() else stop.wait())

    async def extend_leases(self) -> None:
        """Extend the leases of what is under way here; one that somebody else took stays lost."""
        running = {claimed.key: claimed for claimed, _ in self._running.values()}
        if not running:
            return
        asked = monotonic()
        kept = await self.database.fetch(
            """UPDATE obligation_keys SET leased_until = clock_timestamp() + make_interval(secs => $3)
               WHERE holder = $1 AND key = ANY($2) RETURNING key, head""",
            self.holder,
            sorted(running),
            self.pace.lease_seconds,
        )
        for row in kept:
            if row["head"] == running[row["key"]].id:
                running[row["key"]].lease.ends = asked + self.pace.lease_seconds

    async def settle_by_person(self, received: Received[OperatorSettledObligation], tx: Transaction) -> None:
        """The handler of `operator.settled-obligation.v1`: `react(OperatorSettledObligation, …)`."""
        await settle_by_person(self.kinds, received.event, tx)

    async def rescue(self) -> int:
        """Take back what was leased to holders that are gone; how many that were."""

        async def once(end_blockers: bool) -> Counts:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                rows = await _held_rows(tx, "k.leased_until < clock_timestamp()")
                rows = [row for row in rows if row["kind"] in self.kinds]
                await tx.execute(
                    "UPDATE obligation_keys SET holder = $2 WHERE key = ANY($1)",
                    [row["key"] for row in rows],
                    self.holder,
                )
                items = [(self._claimed(row, row["started_at"], 0.0), Abandoned()) for row in rows]
                counts = await self._settle_in(tx, items) if items else Counts()
                counts.rescued = len(items)
                return counts

        counts = await patiently(once)
        self._add(counts)
        if counts.rescued:
            log.warning("obligations_rescued", count=counts.rescued)
        return counts.rescued


@dataclass(frozen=True, slots=True)
class _Change:
    """The new state of one obligation's row."""

    id: int
    key: str
    state: str
    step: Step
    not_before: datetime
    unsure_at: datetime | None
    failures: int
    outcome: Outcome | None
    since: datetime | None
    due_at: datetime
    payload: str | None

    @classmethod
    def of(cls, claimed: Claimed, following: Next, row: Mapping[str, Any], now: datetime) -> _Change:
        """What follows, with what has replaced the payload while the attempt was under way."""
        change = cls(
            claimed.id,
            claimed.key,
            following.state,
            following.step,
            following.not_before,
            following.unsure_at,
            following.failures,
            following.outcome,
            None,
            claimed.due_at,
            None,
        )
        if row["next_payload"] is None or following.step == "settle":
            return change
        closed = following.state in ("done", "given-up")
        at_once = closed or following.waits_for_quiet or following.step == "read"
        return cls(
            claimed.id,
            claimed.key,
            "open",
            "call",
            row["next_not_before"] if at_once else max(following.not_before, row["next_not_before"]),
            following.unsure_at,
            0 if closed else following.failures,
            None,
            now if closed else None,
            row["next_due_at"] if closed else min(claimed.due_at, row["next_due_at"]),
            row["next_payload"],
        )


async def _held_rows(rows: Rows, condition: str, *values: object) -> list[Mapping[str, Any]]:
    """The heads of leased keys under a condition, their keys locked; what is locked elsewhere is left out."""
    return list(
        await rows.fetch(
            f"""SELECT o.*, k.due_at AS key_due_at, a.started_at
                FROM obligation_keys AS k JOIN obligations AS o ON o.id = k.head
                JOIN obligation_attempts AS a ON a.obligation_id = o.id AND a.number = o.attempts
                WHERE k.holder IS NOT NULL AND {condition} ORDER BY k.key LIMIT 200 FOR UPDATE OF k SKIP LOCKED""",
            *values,
        )
    )


async def _history(rows: Rows, obligation_id: int, number: int) -> str:
    """The last attempts before one, a line each, for a person to read."""
    found = await rows.fetch(
        """SELECT number, step, started_at, result, reason FROM obligation_attempts
           WHERE obligation_id = $1 AND number < $2 ORDER BY number DESC LIMIT 10""",
        obligation_id,
        number,
    )
    lines = (
        f"{row['number']}. {row['started_at']:%Y-%m-%d %H:%M:%S} {row['step']}: {row['result']} {row['reason'][:250]}"
        for row in reversed(found)
    )
    return "\n".join(line.rstrip() for line in lines) or "none"


async def _complete(tx: Transaction, claimed: Claimed, outcome: Outcome) -> None:
    await claimed.kind.settle(
        Settled(
            claimed.id,
            claimed.key,
            claimed.account,
            claimed.about,
            msgspec.json.decode(claimed.payload, type=claimed.kind.payload),
            claimed.due_at,
            outcome,
            claimed.number,
            claimed.traceparent,
        ),
        tx,
    )


def _result_of(ended: Ending) -> tuple[str, str]:
    """An attempt's result in a word, and its reason, for a person to read."""
    match ended:
        case _Deferred():
            return _result_of(ended.ended)
        case Answered():
            return "answered", ""
        case Happened():
            return "there", ""
        case Absent():
            return "not-there", ""
        case Abandoned():
            return "abandoned", "its holder left no record of its end"
        case Known():
            return "stored", ""
        case Refused():
            return "refused", f"{ended.status} {ended.code}: {ended}"[:1000]
        case UnknownOutcome():
            return "unknown", str(ended)[:1000]
        case NotLive():
            return "observed", str(ended)[:1000]
        case Transient():
            return "failed", str(ended)[:1000]


def cause_of(service: str, obligation_id: int) -> str:
    """What the cases about one obligation share."""
    return f"obligation/{service}/{obligation_id}"


async def prune(rows: Rows, before: datetime, limit: int = 5_000) -> int:
    """Throw away what was closed before a time, with its attempts; how much that was."""
    return await rows.execute(
        """DELETE FROM obligations WHERE id IN (
               SELECT id FROM obligations WHERE closed_at < $1 ORDER BY closed_at LIMIT $2)""",
        before,
        limit,
    )


async def measure_owed(database: Database, now: datetime, told: Readings | None = None) -> None:
    """Set what is owed and how late it is; what is put off because its shop is observed is owed, and never late.

    `told` is the caller's, from one time to the next.

    Raises:
        Transient: PostgreSQL does not answer.
    """
    found = await database.fetch(
        """SELECT kind, state, count(*) AS owed, greatest(0, extract(epoch FROM $1 - min(due_at) FILTER (
                      WHERE NOT EXISTS (SELECT FROM obligation_keys AS k
                                        JOIN obligation_attempts AS a ON a.obligation_id = k.head
                                        WHERE k.key = o.key AND a.result = 'observed'))))::float AS late
           FROM obligations AS o WHERE closed_at IS NULL GROUP BY kind, state""",
        now,
    )
    told = told or Readings()
    for gauge, column in ((Metrics.owed, "owed"), (Metrics.overdue, "late")):
        told.set(gauge, [(row[column], {"operation": row["kind"], "state": row["state"]}) for row in found])


# What people decide ---------------------------------------------------------------------------------


async def settle_by_person(kinds: Mapping[str, Kind[Any]], event: OperatorSettledObligation, tx: Transaction) -> bool:
    """Do what a person says of an obligation that is unknown or was given up; whether it was still waiting for it.

    To be called by every service's handler of `operator.settled-obligation.v1`; those for other services
    are left alone. *happened* closes it as done, *did-not-happen* lets it be sent again as if newly owed,
    *give-up* closes it as not done; its cases are closed.

    Raises:
        KeyError: the obligation is of a kind that is not in `kinds`.
    """
    if event.service != tx.service or not event.obligation_id.isdigit():
        return False
    obligation_id = int(event.obligation_id)
    key = await tx.fetchval("SELECT key FROM obligations WHERE id = $1", obligation_id)
    if key is None:
        return False
    # A key that was emptied is put back first: it is what is locked.
    await tx.execute(
        "INSERT INTO obligation_keys (key, due_at) VALUES ($1, 'infinity') ON CONFLICT (key) DO NOTHING", key
    )
    await tx.execute("SELECT 1 FROM obligation_keys WHERE key = $1 FOR UPDATE", key)
    row = await tx.fetchrow("SELECT * FROM obligations WHERE id = $1 FOR UPDATE", obligation_id)
    settled = False
    if row is not None and row["state"] in ("unknown", "given-up"):
        settled = True
        await _decide(kinds[row["kind"]], row, event, tx)
    await _refresh_keys(tx, [key], None, tx.time)
    return settled


async def _decide(kind: Kind[Any], row: Mapping[str, Any], event: OperatorSettledObligation, tx: Transaction) -> None:
    if event.outcome == "did-not-happen":
        await tx.execute(
            """UPDATE obligations SET state = 'open', step = 'call', not_before = $2, since = $2, unsure_at = NULL,
                      failures = 0, outcome = NULL, closed_at = NULL WHERE id = $1""",
            row["id"],
            tx.time,
        )
    else:
        outcome: Outcome = (
            Done(by=event.by)
            if event.outcome == "happened"
            else GivenUp(event.reason or "a person gave it up", by=event.by)
        )
        await tx.execute(
            "UPDATE obligations SET state = $2, outcome = $3::jsonb, closed_at = $4 WHERE id = $1",
            row["id"],
            "done" if isinstance(outcome, Done) else "given-up",
            _json(outcome),
            tx.time,
        )
        if not (row["state"] == "given-up" and isinstance(outcome, GivenUp)):
            await kind.settle(
                Settled(
                    row["id"],
                    row["key"],
                    row["account"],
                    row["about"],
                    msgspec.json.decode(row["payload"], type=kind.payload),
                    row["due_at"],
                    outcome,
                    row["attempts"],
                    row["traceparent"],
                ),
                tx,
            )
    await close_cases(
        tx,
        cause=cause_of(tx.service, row["id"]),
        outcome="settled-by-operator",
        explanation=event.reason or f"Settled as {event.outcome}.",
        by=event.by,
    )
