"""The loop: poll, apply a batch in one transaction, move on.

State, inbox, outbox and offsets commit together in PostgreSQL; Kafka's own offsets are a lag metric,
written now and then. A batch that fails is bisected down to the record that is to blame, and that
record is tried again in place, then parked with its key, or buried when no retry can help. A partition
taken away in mid-batch is harmless: the batch carries the epoch it was read under, and the first
statement of its transaction finds another one there.

The promise that would be expensive to break: every record is applied once, in the order of its key,
whatever crashes, stops or is cut in between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import repeat
from typing import Any, Final

import msgspec
import structlog
from opentelemetry.trace import Span, SpanKind

from shared import dead_letters, inbox, parking, positions
from shared.clock import BusinessClock, monotonic
from shared.codec import decode, subject_of
from shared.database import Conflict, Database, Disconnected, Locked, patiently
from shared.dead_letters import DeadLetter, Limits
from shared.envelope import Envelope, from_record
from shared.errors import Fatal, Permanent, Transient
from shared.handlers import Handlers, Projector, Received, Route
from shared.kafka import Partition, Record, RecordConsumer
from shared.outbox import Outbox, Transaction
from shared.parking import ParkedKey, Parking, key_of
from shared.positions import Fenced, Held
from shared.telemetry import Metrics, end_stage, is_sampled, start_stage, traceparent_of
from shared.topics import topic as topic_named

log = structlog.get_logger(__name__)

_IN_PLACE_PAUSES_SECONDS: Final = (0.1, 0.5, 2.0)
"""Short retries happen where the record stands; after these its key is parked."""

_FUTURE_TOLERANCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pace:
    """How the loop behaves; all durations are real time."""

    batch_records: int = 1_000
    poll_ms: int = 250
    commit_seconds: float = 5.0
    stuck_seconds: float = 60.0
    """No progress for so long, while there is something to read, and the client is rebuilt."""
    watch_seconds: float = 5.0
    rebuild_seconds: float = 1.0
    stop_seconds: float = 8.0
    parked_alert: int = 100
    """So many keys parked by surprise in one partition pause it: the fault is ours, not the records'."""


@dataclass(slots=True)
class Counts:
    """What one consumer did since it started; telemetry reads it, tests wait for it."""

    applied: int = 0
    skipped: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    parked: int = 0
    fenced: int = 0
    rebuilt: int = 0
    batches: int = 0


@dataclass(slots=True)
class _Plan:
    """A batch, sorted: what to hand over, what to bury, what to queue behind its key."""

    events: list[tuple[Route, Received[Any]]] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    parkings: list[Parking] = field(default_factory=list)
    blocked: list[ParkedKey] = field(default_factory=list)
    """Keys that do not go on after a dead letter, by their topic's policy."""
    outcomes_dead: list[bool] = field(default_factory=list)
    skipped: int = 0
    spans: list[Span] = field(default_factory=list)

    def hand_over(self, route: Route, received: Received[Any], consumer: str) -> None:
        """One event for its handler; if its trace is sampled, under a span that what it causes continues."""
        traceparent = received.envelope.traceparent
        if traceparent is not None and is_sampled(traceparent):
            span = start_stage(
                f"process {received.topic}",
                traceparent,
                SpanKind.CONSUMER,
                attributes=attributes_of(received, consumer),
            )
            self.spans.append(span)
            envelope = msgspec.structs.replace(received.envelope, traceparent=traceparent_of(span))
            received = msgspec.structs.replace(received, envelope=envelope)
        self.events.append((route, received))

    def end_spans(self, error: BaseException | None = None) -> None:
        """The batch is committed, or failed."""
        for span in self.spans:
            end_stage(span, error)

    def bury(self, letter: DeadLetter) -> None:
        """One dead letter, and its key held back where the topic says so."""
        self.letters.append(letter)
        self.outcomes_dead.append(True)
        if topic_named(letter.record.topic).after_dead_letter == "park" and letter.record.key:
            self.blocked.append(key_of(letter.record))


class _LimitsMet(Transient):
    """Somewhere in this batch the limits are met: what lies before is applied first, by bisection, so that
    a person can look at its dead letters."""


class _NoProgress(Transient):
    """The watchdog found a client that reads nothing although something is there."""


class _Reassigned(Transient):
    """The group took or gave partitions while we waited: look again before anything else."""


@dataclass(slots=True)
class Consumer:
    """One consumer group member: `name` is the group, `handlers` say what it reads."""

    name: str
    holder: str
    """Unique per process start."""
    handlers: Handlers
    outbox: Outbox
    connect: Callable[[], RecordConsumer]
    sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Per topic that outside producers feed, whose records count; a topic not named takes all."""
    pace: Pace = field(default_factory=Pace)
    limits: Limits = field(default_factory=Limits)
    beat: Callable[[], None] = lambda: None
    counts: Counts = field(default_factory=Counts)
    _client: RecordConsumer | None = None
    _held: dict[Partition, Held] = field(default_factory=dict)
    _version: int = -1
    _parked: dict[ParkedKey, str] = field(default_factory=dict)
    _paused: set[Partition] = field(default_factory=set)
    _days: set[date] = field(default_factory=set)
    _progress: float = 0.0
    _commit_due: float = 0.0
    _drain_due: float = 0.0

    @property
    def database(self) -> Database:
        """Where the state is that the batches belong to."""
        return self.outbox.database

    @property
    def held(self) -> Mapping[Partition, Held]:
        """The partitions that are ours under an epoch, and how far each has been applied."""
        return self._held

    @property
    def joined(self) -> bool:
        """Whether we know our part and do it; with more members than partitions it may be nothing."""
        return self._client is not None and self._client.joined and self._client.assignment_version == self._version

    # The life of a client -----------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`; a client that is stuck or fails is replaced by a new one.

        Raises:
            Fatal: a person must act; the text says what.
        """
        while not stop.is_set():
            try:
                await dead_letters.refuse_if_stopped(self.database, self.name)
                await self._live_with_one_client(stop)
            except Fatal:
                raise
            except (Transient, Fenced) as error:
                if not isinstance(error, _NoProgress):
                    self.beat()  # Kafka or PostgreSQL are away: no restart of ours would bring them back.
                self.counts.rebuilt += 1
                Metrics.rebuilt.add(1, {"consumer": self.name})
                log.warning("consumer_rebuilt", consumer=self.name, reason=str(error))
                await asyncio.sleep(self.pace.rebuild_seconds * random.uniform(0.5, 1.5))

    async def _live_with_one_client(self, stop: asyncio.Event) -> None:
        """One client from start to stop, watched from outside, because a poll may never return."""
        client = self._client = self.connect()
        self._version, self._held, self._progress = -1, {}, monotonic()
        life = asyncio.create_task(self._consume(client, stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            while not life.done() and not stopping.done():
                await asyncio.wait({life, stopping}, timeout=self.pace.watch_seconds, return_when="FIRST_COMPLETED")
                if not life.done() and monotonic() - self._progress > self.pace.stuck_seconds:
                    raise _NoProgress(f"no progress for {self.pace.stuck_seconds:g} s")
            if not life.done():
                await asyncio.wait({life}, timeout=self.pace.stop_seconds)
        finally:
            stopping.cancel()
            if not life.done():
                # Never done while the client is to live on: a cancelled poll leaks. This client dies here.
                life.cancel()
                await asyncio.wait({life}, timeout=self.pace.stop_seconds)
            await client.stop()
            self._client = None
        if life.done() and not life.cancelled():
            life.result()

    async def _consume(self, client: RecordConsumer, stop: asyncio.Event) -> None:
        await client.start()
        while not stop.is_set():
            self.beat()
            try:
                await self._turn(client)
            except (Fenced, Disconnected, Conflict, Locked, _Reassigned) as error:
                # What we knew may be out of date, even whether a commit got through: learn it anew.
                if isinstance(error, Fenced):
                    self.counts.fenced += 1
                    Metrics.fenced.add(1, {"consumer": self.name})
                log.info("consumer_looks_again", consumer=self.name, reason=str(error))
                self._version = -1
                await self._poll_paused(client, 0.2 * random.uniform(0.5, 1.5))
        await self._commit(client)

    async def _turn(self, client: RecordConsumer) -> None:
        if client.assignment_version != self._version:
            await self._take_assignment(client)
        await self._drain()
        records = await client.poll(self.pace.poll_ms, self.pace.batch_records)
        if client.assignment_version != self._version:
            return  # These may have been read before the group changed; they will be read again.
        if records:
            await self._apply(records)
            self._progress = monotonic()
        else:
            await self._note_idle(client)
        if monotonic() >= self._commit_due:
            await self._commit(client)

    async def _take_assignment(self, client: RecordConsumer) -> None:
        """Draw epochs for what the group gave us, and read on from where PostgreSQL says."""
        version, assigned = client.assignment_version, client.assigned
        self._held = {}
        if assigned:
            self._held = await positions.take(
                self.database,
                self.name,
                self.holder,
                await client.cluster_id(),
                sorted(assigned),
                client.beginning_offsets,
            )
        self._parked = await parking.parked_keys(self.database, self.name, assigned)
        self._drain_due = 0.0
        if client.assignment_version != version:
            return
        for partition, held in self._held.items():
            client.seek(partition, held.next_offset)
        self._paused = set()
        client.resume(assigned)
        self._pause_the_surprising(client)
        self._version = version
        self._progress = monotonic()

    async def _note_idle(self, client: RecordConsumer) -> None:
        """Nothing came: is that because nothing is there? Also steps over transaction markers."""
        if monotonic() - self._progress < self.pace.stuck_seconds / 4:
            return
        flowing = [p for p in self._held if p not in self._paused]
        ends = await client.end_offsets(flowing)
        behind = False
        steps: dict[Partition, int] = {}
        for partition in flowing:
            if self._held[partition].next_offset < ends[partition]:
                position = await client.position(partition)
                if position >= ends[partition]:
                    steps[partition] = position  # What is left are markers, which no poll returns.
                else:
                    behind = True
        if steps:
            async with self.database.transaction() as rows:
                await positions.advance(rows, self.name, self._held, steps)
            self._moved(steps)
        if not behind:
            self._progress = monotonic()

    async def _commit(self, client: RecordConsumer) -> None:
        """Tell Kafka where we stand. Only people and autoscalers read it, so a failure is no matter."""
        self._commit_due = monotonic() + self.pace.commit_seconds
        if self._held:
            try:
                await client.commit({p: h.next_offset for p, h in self._held.items()})
            except Transient as error:
                log.info("lag_not_committed", consumer=self.name, reason=str(error))

    async def _poll_paused(self, client: RecordConsumer, seconds: float) -> None:
        """Wait, and keep polling while nothing may be fetched: else the group would think us dead."""
        client.pause(client.assigned)
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self.beat()
            await client.poll(int(min(left, 0.5) * 1000) + 1, 1)
            self._progress = monotonic()

    async def _wait_in_place(self, client: RecordConsumer, seconds: float) -> None:
        """Wait with a batch in hand, for its next attempt.

        Raises:
            _Reassigned: the assignment changed meanwhile, and the batch may not be ours any more.
        """
        await self._poll_paused(client, seconds)
        if client.assignment_version != self._version:
            raise _Reassigned("the assignment changed while a record waited for its next attempt")
        client.resume(p for p in self._held if p not in self._paused)

    # A batch ------------------------------------------------------------------------------------

    async def _apply(self, records: Sequence[Record]) -> None:
        """Apply records as one transaction; where that fails, find the one that is to blame."""
        try:
            await patiently(lambda end_blockers: self._apply_once(records, end_blockers))
        except (Fenced, Disconnected, Conflict, Locked, Fatal):
            raise
        except Exception as error:
            if len(records) == 1:
                await self._blame(records[0], error)
            else:
                middle = len(records) // 2
                await self._apply(records[:middle])
                await self._apply(records[middle:])

    async def _blame(self, record: Record, error: Exception) -> None:
        """One record fails by itself: again in place, then parked, or buried."""
        if isinstance(error, Transient):
            for pause in _IN_PLACE_PAUSES_SECONDS:
                assert self._client is not None  # the loop that got us here runs on it
                seconds = error.retry_seconds or pause
                if seconds > _IN_PLACE_PAUSES_SECONDS[-1]:
                    break  # The other side named a long pause: only this key waits for its end.
                await self._wait_in_place(self._client, seconds)
                try:
                    return await patiently(lambda end_blockers: self._apply_once([record], end_blockers))
                except (Fenced, Disconnected, Conflict, Locked, Fatal):
                    raise
                except Transient as again:
                    error = again
                except Exception as other:
                    error = other
                    break
        await patiently(lambda end_blockers: self._apply_once([record], end_blockers, verdict_of(record, error)))

    async def _apply_once(
        self, records: Sequence[Record], end_blockers: bool, verdict: DeadLetter | Parking | None = None
    ) -> None:
        """One transaction: the fence first, then everything the batch does, then the outbox."""
        # Plain tuples here and below: a thousand records a batch, and a `Partition` equals its tuple.
        ends: dict[tuple[str, int], int] = {(r.topic, r.partition): r.offset + 1 for r in records}
        steps = {Partition(*place): end for place, end in ends.items()}
        starts = {(p.topic, p.partition): self._next_offset(p) for p in steps}
        records = [r for r in records if r.offset >= starts[r.topic, r.partition]]
        if not records:
            return
        plan = self._plan(records) if verdict is None else _planned(verdict)
        clock = self.outbox.clock
        ahead = verdict is None and any(letter.rule == "time-in-future" for letter in plan.letters)
        if ahead and isinstance(clock, BusinessClock):
            # It may be we who have not noticed yet that business time has moved on.
            plan.end_spans()
            await clock.synchronize(self.database)
            plan = self._plan(records)
        limits = replace(self.limits)
        if reason := limits.exceeded_by(plan.outcomes_dead):
            if len(records) > 1:
                raise _LimitsMet(reason)
            await self._stop_for_good(records[-1].topic, reason)
        await self._make_days(plan)
        started = monotonic()
        try:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                await positions.advance(tx, self.name, self._held, steps)
                duplicates = await self._carry_out(plan, tx)
        except BaseException as error:
            plan.end_spans(error)
            raise
        plan.end_spans()
        Metrics.batch_seconds.record(monotonic() - started, {"consumer": self.name})
        self.limits = limits
        self._moved(steps)
        self._count(plan, duplicates)
        if plan.parkings or plan.blocked:
            for waiting in plan.parkings:
                self._parked.setdefault(key_of(waiting.record), waiting.rule)
            self._parked |= dict.fromkeys(plan.blocked, "after-dead-letter")
            if self._client is not None:
                self._pause_the_surprising(self._client)

    async def _carry_out(self, plan: _Plan, tx: Transaction) -> int:
        """Everything a plan says, within `tx`; the number of duplicates dropped."""
        if plan.letters:
            await dead_letters.bury(tx, self.name, plan.letters)
        if plan.blocked:
            await parking.block(tx, self.name, plan.blocked, "after-dead-letter")
        if plan.parkings:
            await parking.park(tx, self.name, plan.parkings)
        fresh = await self._first_timers(plan.events, tx)
        await self._hand_over(fresh, tx)
        return len(plan.events) - len(fresh)

    async def _first_timers(
        self, events: Sequence[tuple[Route, Received[Any]]], tx: Transaction
    ) -> list[tuple[Route, Received[Any]]]:
        claimed = [received for route, received in events if route.guard == "inbox"]
        numbered = [received for route, received in events if route.guard == "sequence"]
        if not claimed and not numbered:
            return list(events)
        verdicts = {
            "inbox": iter(await inbox.unclaimed(tx, self.name, claimed) if claimed else ()),
            "sequence": iter(await inbox.newer(tx, self.name, numbered) if numbered else ()),
            "state": repeat(True),
        }
        return [(route, received) for route, received in events if next(verdicts[route.guard])]

    async def _hand_over(self, events: Sequence[tuple[Route, Received[Any]]], tx: Transaction) -> None:
        """Call the handlers in order; neighbours of one type, or of types that share a handler, go together."""
        start = 0
        while start < len(events):
            route = events[start][0]
            end = start + 1
            while end < len(events) and events[end][0].handler.apply is route.handler.apply:
                end += 1
            batch = [received for _, received in events[start:end]]
            if isinstance(route.handler, Projector):
                await route.handler.apply(batch, tx.rows)
            else:
                await route.handler.apply(batch, tx)
            start = end

    def _plan(self, records: Iterable[Record]) -> _Plan:
        """Sort records by what is to be done with each; no record's mistake harms another."""
        plan = _Plan()
        latest = self.outbox.clock.now() + _FUTURE_TOLERANCE
        queued: dict[ParkedKey, str] = {}
        for record in records:
            if not record.value:
                plan.skipped += 1  # A tombstone, or nothing: says nothing to us, and is no poison.
                continue
            if (self._parked or queued) and (
                rule := self._parked.get(key := key_of(record)) or queued.get(key)
            ) is not None:
                plan.parkings.append(Parking(record, rule, "queued behind its key"))
                continue
            try:
                found = self._read(record, latest)
            except Permanent as error:
                plan.bury(DeadLetter.of(record, error))
                queued |= dict.fromkeys(plan.blocked[-1:], "after-dead-letter")
                continue
            if found is None:
                plan.skipped += 1
            elif isinstance(found, Parking):
                plan.parkings.append(found)
                queued[key_of(record)] = found.rule
            else:
                plan.hand_over(*found, self.name)
                plan.outcomes_dead.append(False)
        return plan

    def _read(self, record: Record, latest: datetime) -> tuple[Route, Received[Any]] | Parking | None:
        """An event with its route; a record that must wait; or nothing, where we do not handle its type.

        `latest` is the time that no event can be after, if its producer's clock is right.

        Raises:
            Permanent: the record breaks a rule; the error names field and rule.
        """
        assert record.value is not None  # the caller skips tombstones
        envelope, value = from_record(record.headers, record.value)
        route = self.handlers.routes.get(envelope.type)
        if route is None:
            family, version = subject_of(envelope.type)
            if family not in self.handlers.families:
                return None
            return Parking(
                record,
                "unknown-version",
                f"{envelope.type} is handled here in another version than {version}: deploy the code that knows it",
            )
        self._check_source(record, envelope)
        event = decode(envelope.type, value)
        if record.key is None or record.key != event.key.encode():
            raise Permanent(
                f"the record's key {record.key!r} is not the event's: send {event.key!r} as the Kafka key",
                rule="key-mismatch",
                field="key",
            )
        if envelope.time > latest:
            raise Permanent(
                f"ce_time {envelope.time.isoformat()} is more than a day ahead: set the producer's clock",
                rule="time-in-future",
                field="ce_time",
            )
        return route, Received(event, envelope, record.topic, record.partition, record.offset)

    def _check_source(self, record: Record, envelope: Envelope) -> None:
        allowed = self.sources.get(record.topic)
        if allowed is not None and envelope.source not in allowed:
            raise Permanent(
                f"ce_source {envelope.source!r} is not a source of {record.topic} here: "
                f"allowed are {', '.join(sorted(allowed))}",
                rule="foreign-source",
                field="ce_source",
            )

    async def _make_days(self, plan: _Plan) -> None:
        days = {received.envelope.time.date() for route, received in plan.events if route.guard == "inbox"}
        # Older ones may have been dropped since they were made, so those are made sure of every time.
        recent = self.outbox.clock.now().date() - timedelta(days=2)
        known = {day for day in self._days if day >= recent}
        if not days <= known:
            await inbox.make_days(self.database, sorted(days - known))
            self._days = known | days

    async def _stop_for_good(self, topic: str, reason: str) -> None:
        await dead_letters.note_stop(self.database, self.name, topic, reason)
        await dead_letters.refuse_if_stopped(self.database, self.name)

    def _next_offset(self, partition: Partition) -> int:
        held = self._held.get(partition)
        if held is None:
            raise Fenced(f"{partition.topic}/{partition.partition} is not ours any more")
        return held.next_offset

    def _moved(self, steps: Mapping[Partition, int]) -> None:
        for partition, next_offset in steps.items():
            self._held[partition].next_offset = next_offset

    def _count(self, plan: _Plan, duplicates: int) -> None:
        self.counts.batches += 1
        self.counts.applied += len(plan.events) - duplicates
        self.counts.duplicates += duplicates
        self.counts.skipped += plan.skipped
        self.counts.dead_letters += len(plan.letters)
        self.counts.parked += len(plan.parkings)
        about = {"consumer": self.name}
        Metrics.consumed.add(len(plan.events) - duplicates, about)
        if duplicates:
            Metrics.duplicates.add(duplicates, about)
        if plan.skipped:
            Metrics.skipped.add(plan.skipped, about)
        for waiting in plan.parkings:
            Metrics.parkings.add(1, about | {"rule": waiting.rule})
        for letter in plan.letters:
            Metrics.dead_letters.add(1, about | {"topic": letter.record.topic, "rule": letter.rule})
            log.error(
                "dead_letter",
                consumer=self.name,
                topic=letter.record.topic,
                partition=letter.record.partition,
                offset=letter.record.offset,
                rule=letter.rule,
                field=letter.field,
            )

    # Keys that wait -----------------------------------------------------------------------------

    def _pause_the_surprising(self, client: RecordConsumer) -> None:
        """Many keys parked by surprise mean that the fault is ours: let no more of them pile up."""
        surprises: dict[Partition, int] = {}
        for key, rule in self._parked.items():
            if rule == "unexpected":
                surprises[key.partition] = surprises.get(key.partition, 0) + 1
        full = {p for p, count in surprises.items() if count >= self.pace.parked_alert and p in self._held}
        if full - self._paused:
            log.error("partition_paused", consumer=self.name, parked=max(surprises.values()))
            client.pause(full - self._paused)
        if self._paused - full:
            client.resume(self._paused - full)
        self._paused = full

    async def _drain(self) -> None:
        """Try the keys whose time has come, record by record in their order."""
        if not self._parked or monotonic() < self._drain_due:
            return
        self._drain_due = monotonic() + 0.5
        for key in await parking.due_keys(self.database, self.name, self._held, limit=100):
            await self._drain_key(key)
        if self._client is not None:
            self._pause_the_surprising(self._client)

    async def _drain_key(self, key: ParkedKey) -> None:
        records = await parking.queued_records(self.database, self.name, key, limit=100)
        for record in records:
            try:
                freed = await patiently(lambda end_blockers, r=record: self._drain_once(key, r, end_blockers))  # type: ignore[misc]
            except (Fenced, Disconnected, Conflict, Locked, Fatal):
                raise
            except Exception as error:
                verdict = verdict_of(record, error)
                freed = await patiently(lambda end_blockers, v=verdict: self._settle(key, v, end_blockers))  # type: ignore[misc]
                if isinstance(verdict, Parking) or self._parked.get(key) == "after-dead-letter":
                    return
            if freed:
                self._parked.pop(key, None)
                return
        if not records:
            async with self.outbox.transaction() as tx:
                await positions.still_held(tx, self.name, key.partition, self._held[key.partition])
                if await parking.free_if_empty(tx, self.name, key):
                    self._parked.pop(key, None)

    async def _drain_once(self, key: ParkedKey, record: Record, end_blockers: bool) -> bool:
        """Apply one queued record under our epoch; whether the key flows again."""
        found = self._read(record, self.outbox.clock.now() + _FUTURE_TOLERANCE)
        if isinstance(found, Parking):
            raise _StillUnknown(found.reason)
        plan = _Plan()
        if found is not None:
            plan.hand_over(*found, self.name)
        await self._make_days(plan)
        try:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                await positions.still_held(tx, self.name, key.partition, self._held[key.partition])
                duplicates = await self._carry_out(plan, tx)
                await parking.remove_record(tx, self.name, record)
                freed = await parking.free_if_empty(tx, self.name, key)
        except BaseException as error:
            plan.end_spans(error)
            raise
        plan.end_spans()
        self._count(plan, duplicates)
        return freed

    async def _settle(self, key: ParkedKey, verdict: DeadLetter | Parking, end_blockers: bool) -> bool:
        """A queued record failed again: let its key wait longer, or bury it and go on."""
        async with self.outbox.transaction(end_blockers=end_blockers) as tx:
            await positions.still_held(tx, self.name, key.partition, self._held[key.partition])
            if isinstance(verdict, Parking):
                await parking.postpone(tx, self.name, key, verdict.rule, verdict.reason)
                return False
            plan = _planned(verdict)
            await self._carry_out(plan, tx)
            await parking.remove_record(tx, self.name, verdict.record)
            freed = not plan.blocked and await parking.free_if_empty(tx, self.name, key)
        self._count(plan, 0)
        if plan.blocked:
            self._parked[key] = "after-dead-letter"
        return freed


class _StillUnknown(Transient):
    """A parked record whose version this code does not know either."""


def attributes_of(received: Received[Any], consumer: str) -> dict[str, str | int]:
    """A span's attributes by OpenTelemetry's conventions for messaging; the key is an id, never a person."""
    return {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": received.topic,
        "messaging.destination.partition.id": str(received.partition),
        "messaging.kafka.offset": received.offset,
        "messaging.kafka.message.key": received.event.key,
        "messaging.consumer.group.name": consumer,
        "messaging.message.id": received.envelope.id,
        "cloudevents.event_type": received.envelope.type,
    }


def verdict_of(record: Record, error: Exception) -> DeadLetter | Parking:
    """What becomes of a record that failed by itself: pure, so that the rule can be read in one place."""
    match error:
        case Permanent():
            return DeadLetter.of(record, error)
        case _StillUnknown():
            return Parking(record, "unknown-version", str(error))
        case Transient():
            return Parking(record, "transient", str(error), error.retry_seconds or parking.FIRST_RETRY_SECONDS)
        case _:
            # The text of a foreign exception may carry what the record carries, personal data too.
            log.error(
                "unexpected_error",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                error=type(error).__name__,
                exc_info=error,
            )
            return Parking(record, "unexpected", type(error).__name__)


def _planned(verdict: DeadLetter | Parking) -> _Plan:
    plan = _Plan()
    if isinstance(verdict, DeadLetter):
        plan.bury(verdict)
    else:
        plan.parkings.append(verdict)
    return plan


async def caught_up(database: Database, consumer: str, ends: Mapping[Partition, int]) -> bool:
    """Whether a consumer, in whatever processes it runs, has applied everything before `ends`.

    Reactors start only when this holds for the topics of reference data, read to their end as it was
    when the service started: an order that overtakes its mapping would raise a false case.
    """
    stands = await positions.positions_of(database, consumer)
    return all(end == 0 or stands.get(partition, 0) >= end for partition, end in ends.items())


async def run_after(
    reference: Consumer,
    ends: Callable[[], Awaitable[Mapping[Partition, int]]],
    consumers: Sequence[Consumer],
    stop: asyncio.Event,
) -> None:
    """Start reactors when the reference data is read, to its end as it was when this was called.

    `ends` asks Kafka for the end of every partition of the reference topics; it is asked again while
    Kafka is away.
    """
    wanted: Mapping[Partition, int] | None = None
    while not stop.is_set():
        try:
            wanted = await ends() if wanted is None else wanted
            if await caught_up(reference.database, reference.name, wanted):
                break
        except Transient as error:
            log.info("reference_data_waits", consumer=reference.name, reason=str(error))
        await asyncio.sleep(0.1)
    await asyncio.gather(*(consumer.run(stop) for consumer in consumers))
