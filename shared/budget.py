"""The call budget: how often each remote operation may be called per account, shared by all replicas.

A request leaves only inside `CallBudget.call`. The next slot counts from the previous call's answer; a
slot that is not used within a second lapses. Whoever waits for the same slot is served by stated
priority, then in the order of asking. `Retry-After` holds the operation back for everybody, and SFCC's
own word for its load spreads all calls that add to it (`gap_after`). Slots are business time; how long a
caller is believed to be alive is real time (platform.md, decisions 14, 15).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from shared.clock import monotonic
from shared.database import Conflict, Database, Rows, patiently
from shared.errors import Transient
from shared.leases import current_lease
from shared.operations import PURPOSES, Call, CallRate, Operation, Purpose
from shared.telemetry import Metrics

log = structlog.get_logger(__name__)

UNUSED_SECONDS: Final = 1.0
"""A slot lapses when its request has not left so soon after it was asked for."""

MARGIN: Final = timedelta(seconds=0.1)
"""How far apart two replicas may see business time (half a round trip each, `shared.clock`)."""

_WAITER_SECONDS: Final = 4.0
_LOOK_AGAIN_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 10.0
_BLOCKED_WITHOUT_WORD_SECONDS: Final = 60.0
_RARE_SECONDS: Final = 3_600.0
_IN_VAIN_SECONDS: Final = 600.0
_OBJECTS_KEPT: Final = timedelta(days=1)
_WARN_GAP: Final = 0.2
_THROTTLE_GAP: Final = 1.0
_LONGEST_GAP: Final = 16.0
_LEAST_GAP: Final = 0.1
_URGENT_SHARE: Final = 0.25
_LOAD_HOLDS: Final = timedelta(minutes=10)


class Clock(Protocol):
    """Business time."""

    def now(self) -> datetime: ...
    def sleep_until(self, due: datetime) -> Coroutine[Any, Any, None]: ...


class NoSlot(Transient):
    """No slot within the caller's patience; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Wait:
    """No slot yet: look again at `until`; `None` when it depends on somebody else's answer."""

    until: datetime | None


@dataclass(frozen=True, slots=True)
class Granted:
    """A slot, to be used at once."""

    call_id: int


def next_slot(rates: Sequence[CallRate], answers: Sequence[datetime | None], now: datetime) -> Wait | None:
    """Whether a call may leave at `now`: nothing when it may, else how long to wait.

    `answers` are the times at which earlier calls were answered, `None` for those under way. A rate of n
    calls allows one when the n-th last answer is `seconds` ago, so that no window of that length, however
    it is placed, sees more than n calls.
    """
    until = now
    for rate in rates:
        under_way = sum(answer is None for answer in answers)
        if under_way >= rate.calls:
            return Wait(None)
        known = sorted((answer for answer in answers if answer is not None), reverse=True)
        if len(known) + under_way >= rate.calls:
            last = known[rate.calls - under_way - 1]
            until = max(until, last + timedelta(seconds=rate.seconds) + MARGIN)
    return None if until <= now else Wait(until)


def rates_of(operation: Operation, *, partner: bool) -> tuple[CallRate, ...]:
    """The rates that hold for us: as a seller's own integration, or as an external partner."""
    if partner and operation.partner_rates is not None:
        return operation.partner_rates
    return operation.rates


def gap_after(load: str | None, gap: float) -> float:
    """How far apart calls leave (seconds, 0: as they come), after an answer with this word for SFCC's load.

    WARN (from 80 percent on) asks to slow down: five calls a second, and no less long than half of what
    was. THROTTLE (from 90 on, where calls are turned away with 503) doubles what was, from one a second
    to one in sixteen. No word is calm, and halves it until it is gone; a word nobody knows is a WARN.
    """
    match load:
        case "THROTTLE":
            return min(max(_THROTTLE_GAP, gap * 2), _LONGEST_GAP)
        case None:
            return gap / 2 if gap / 2 >= _LEAST_GAP else 0.0
        case _:
            return max(_WARN_GAP, gap / 2)


def is_urgent(operation: Operation, purpose: Purpose) -> bool:
    """A reading that a deadline or a person waits for: it is slowed down by a quarter only, in a queue of its own.

    A write adds more to the load than a reading, and a poll comes again anyway.
    """
    return operation.repeat == "reading" and purpose in ("deadline", "interactive")


def counted_from(operation: Operation, rates: Sequence[CallRate], now: datetime, *, in_vain: bool) -> datetime:
    """Since when a call counts that has ended at `now`.

    A reading that brought nothing holds the next one back for ten minutes instead of hours: what is read once a
    day would be missing for a day after one lost answer.
    """
    longest = max((rate.seconds for rate in rates), default=0.0)
    if not in_vain or operation.repeat != "reading" or longest < _RARE_SECONDS:
        return now
    return now - timedelta(seconds=longest - _IN_VAIN_SECONDS)


class CallBudget:
    """The `shared.operations.Gate` of one process, on budgets that all replicas share.

    `partner` says whether Mirakl knows us as an external partner. `pages_count` overrides per operation
    whether further pages of one reading count. `patience_seconds` bounds, in business time, the wait for
    one slot.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        partner: bool = False,
        pages_count: Mapping[str, bool] | None = None,
        patience_seconds: float = 240.0,
    ) -> None:
        self.database = database
        self.clock = clock
        self.partner = partner
        self.pages_count = dict(pages_count or {})
        self.patience = timedelta(seconds=patience_seconds)
        self._answered = asyncio.Event()
        self._blocks: dict[tuple[str, str], datetime] = {}
        self._blocks_until = float("-inf")
        self._learning = asyncio.Lock()
        self._loaded: set[str] = set()
        self._queues: dict[tuple[str, bool], asyncio.Lock] = {}

    @asynccontextmanager
    async def call(
        self, operation: Operation, account: str, *, purpose: Purpose = "poll", about: str = "", page: bool = False
    ) -> AsyncIterator[Call]:
        """Wait for a slot, then let the block make its one request; see `shared.operations.Gate`.

        Raises:
            NoSlot: none within our patience; `retry_seconds` says when to come again.
            LeaseLost: the lease this task works under ran out while it waited.
        """
        about = about if operation.per_object else ""
        rates = rates_of(operation, partner=self.partner)
        if page and not self.pages_count.get(operation.name, operation.pages_count):
            rates = ()
        lease = current_lease()
        if lease is not None:
            lease.waits = True
        if operation.tells_load:
            await self._wait_for_load(operation, account, is_urgent(operation, purpose))
        if rates:
            granted = await self._wait_for_slot(operation, account, about, rates, PURPOSES.index(purpose))
        else:
            granted = None
            await self._wait_while_blocked(operation, account)
        call = Call(operation, account)
        try:
            if lease is not None:
                lease.check()
                lease.waits = False
        except BaseException:
            if granted is not None:
                await self._hand_back(granted)
            raise
        left_at = self.clock.now()
        in_vain = False
        try:
            yield call
        except Transient:
            in_vain = True
            raise
        finally:
            counts_at = counted_from(operation, rates, self.clock.now(), in_vain=in_vain)
            # The answer counts whatever becomes of the task that waited for it.
            await asyncio.shield(asyncio.ensure_future(self._note_answer(call, about, granted, left_at, counts_at)))

    # Slots --------------------------------------------------------------------------------------

    async def _wait_for_slot(
        self, operation: Operation, account: str, about: str, rates: Sequence[CallRate], rank: int
    ) -> int:
        deadline = self.clock.now() + self.patience
        waiter: int | None = None
        try:
            while True:
                heard = self._answered
                asked = monotonic()
                waiter, found = await patiently(
                    lambda end_blockers, w=waiter: self.ask(  # type: ignore[misc]
                        operation, account, about, rates, rank, w, end_blockers=end_blockers
                    )
                )
                if isinstance(found, Granted):
                    waiter = None
                    if monotonic() - asked < UNUSED_SECONDS:
                        return found.call_id
                    log.info("slot_lapsed", operation=operation.name, account=account)
                    await self._hand_back(found.call_id)
                    continue
                now = self.clock.now()
                if now >= deadline or (found.until is not None and found.until > deadline):
                    seconds = ((found.until or now) - now).total_seconds()
                    raise NoSlot(
                        f"{operation.name} of {account} has no slot within {self.patience.total_seconds():g} s",
                        retry_seconds=max(1.0, seconds),
                    )
                await self._pause(found.until, heard)
        finally:
            if waiter is not None:
                with suppress(Transient):
                    await self.database.execute("DELETE FROM bridge.call_waiters WHERE id = $1", waiter)

    async def ask(
        self,
        operation: Operation,
        account: str,
        about: str,
        rates: Sequence[CallRate],
        rank: int,
        waiter: int | None,
        *,
        end_blockers: bool = False,
    ) -> tuple[int, Granted | Wait]:
        """One look at the budget, under its lock: a slot, or how long to wait; and our number in the queue."""
        name = operation.name, account, about
        async with self.database.transaction(end_blockers=end_blockers) as rows:
            new = await rows.execute(
                """INSERT INTO bridge.call_budgets (operation, account, about) VALUES ($1, $2, $3)
                   ON CONFLICT DO NOTHING""",
                *name,
            )
            budget = await rows.fetchrow(
                """SELECT blocked_before FROM bridge.call_budgets
                   WHERE operation = $1 AND account = $2 AND about = $3 FOR UPDATE""",
                *name,
            )
            if budget is None:
                raise Conflict("the budget was thrown away in between")
            if new and about:
                await _forget_old_objects(rows, name, self.clock.now())
            # The time is read under the lock: an answer that was noted before us is not after us.
            now = self.clock.now()
            waiter = await self._queue(rows, name, rank, waiter)
            blocked = budget["blocked_before"]
            if blocked is not None and blocked > now:
                return waiter, Wait(blocked)
            wait = next_slot(rates, await self._answers(rows, name, rates, now), now)
            if wait is not None:
                return waiter, wait
            first = await rows.fetchval(
                """SELECT id FROM bridge.call_waiters WHERE operation = $1 AND account = $2 AND about = $3
                     AND seen_until > clock_timestamp() ORDER BY rank, id LIMIT 1""",
                *name,
            )
            if first != waiter:
                return waiter, Wait(None)
            await rows.execute("DELETE FROM bridge.call_waiters WHERE id = $1", waiter)
            call_id = await rows.fetchval(
                """INSERT INTO bridge.calls (operation, account, about, granted_at, dead_until)
                   VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5)) RETURNING id""",
                *name,
                now,
                operation.timeout_seconds + _GRACE_SECONDS,
            )
            return waiter, Granted(call_id)

    async def _queue(self, rows: Rows, name: tuple[str, str, str], rank: int, waiter: int | None) -> int:
        """Stay in the queue, or enter it; who has not looked for some seconds is out."""
        if waiter is not None and await rows.execute(
            "UPDATE bridge.call_waiters SET seen_until = clock_timestamp() + make_interval(secs => $2) WHERE id = $1",
            waiter,
            _WAITER_SECONDS,
        ):
            return waiter
        await rows.execute(
            """DELETE FROM bridge.call_waiters WHERE operation = $1 AND account = $2 AND about = $3
               AND seen_until < clock_timestamp() - interval '1 minute'""",
            *name,
        )
        entered: int = await rows.fetchval(
            """INSERT INTO bridge.call_waiters (operation, account, about, rank, seen_until)
               VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5)) RETURNING id""",
            *name,
            rank,
            _WAITER_SECONDS,
        )
        return entered

    async def _answers(
        self, rows: Rows, name: tuple[str, str, str], rates: Sequence[CallRate], now: datetime
    ) -> list[datetime | None]:
        """When the calls that still matter were answered; those of dead callers count as answered now."""
        await rows.execute(
            """UPDATE bridge.calls SET answered_at = $4 WHERE operation = $1 AND account = $2 AND about = $3
               AND answered_at IS NULL AND dead_until < clock_timestamp()""",
            *name,
            now,
        )
        longest = max(rate.seconds for rate in rates)
        await rows.execute(
            """DELETE FROM bridge.calls WHERE operation = $1 AND account = $2 AND about = $3 AND answered_at < $4""",
            *name,
            now - timedelta(seconds=longest) - 2 * MARGIN,
        )
        found = await rows.fetch(
            "SELECT answered_at FROM bridge.calls WHERE operation = $1 AND account = $2 AND about = $3", *name
        )
        return [row["answered_at"] for row in found]

    async def _hand_back(self, call_id: int) -> None:
        """The slot was not used: the next one does not count from it."""
        with suppress(Transient):
            await self.database.execute("DELETE FROM bridge.calls WHERE id = $1", call_id)
        self._wake()

    async def _pause(self, until: datetime | None, heard: asyncio.Event) -> None:
        """Until a slot may be free: its time, an answer in this process, or a second for those in others."""
        tasks: set[asyncio.Task[Any]] = {asyncio.create_task(heard.wait())}
        if until is not None:
            tasks.add(asyncio.create_task(self.clock.sleep_until(until)))
        try:
            await asyncio.wait(tasks, timeout=_LOOK_AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _wake(self) -> None:
        self._answered.set()
        self._answered = asyncio.Event()

    # Answers ------------------------------------------------------------------------------------

    async def _note_answer(
        self, call: Call, about: str, granted: int | None, left_at: datetime, counts_at: datetime
    ) -> None:
        if call.operation.tells_load and (call.load is not None or call.account in self._loaded):
            await self._note_load(call, left_at)
        now = self.clock.now()
        blocked = blocked_before(call, now)
        if granted is None and blocked is None:
            return
        name = call.operation.name, call.account, about

        async def note(end_blockers: bool) -> None:
            async with self.database.transaction(end_blockers=end_blockers) as rows:
                if blocked is not None:
                    await rows.execute(
                        """INSERT INTO bridge.call_budgets AS b (operation, account, about, blocked_before)
                           VALUES ($1, $2, $3, $4) ON CONFLICT (operation, account, about)
                           DO UPDATE SET blocked_before = greatest(b.blocked_before, excluded.blocked_before)""",
                        *name,
                        blocked,
                    )
                if granted is not None:
                    await rows.execute(
                        "UPDATE bridge.calls SET answered_at = $2 WHERE id = $1 AND answered_at IS NULL",
                        granted,
                        counts_at,
                    )

        if blocked is not None:
            self._blocks[name[:2]] = max(blocked, self._blocks.get(name[:2], blocked))
            Metrics.slowed_down.add(1, {"operation": name[0], "account": name[1]})
            log.warning("call_slowed_down", operation=name[0], account=name[1], status=call.status)
        try:
            await patiently(note)
        except Transient as error:
            # Not noted: the call counts as under way until its holder is given up, which only delays.
            log.warning("answer_not_noted", operation=name[0], account=name[1], reason=str(error))
        self._wake()

    async def _wait_while_blocked(self, operation: Operation, account: str) -> None:
        """For calls that no rate counts: wait for what `Retry-After` asked, as known for a second at most."""
        deadline = self.clock.now() + self.patience
        while True:
            await self._learn_blocks()
            now = self.clock.now()
            blocked = self._blocks.get((operation.name, account))
            if blocked is None or blocked <= now:
                return
            if blocked > deadline:
                raise NoSlot(
                    f"{operation.name} of {account} is held back by the remote system's Retry-After",
                    retry_seconds=(blocked - now).total_seconds(),
                )
            await self._pause(blocked, self._answered)

    async def _learn_blocks(self) -> None:
        async with self._learning:
            if monotonic() < self._blocks_until:
                return
            asked = monotonic()
            rows = await self.database.fetch(
                """SELECT operation, account, max(blocked_before) AS before FROM bridge.call_budgets
                   WHERE blocked_before > $1 GROUP BY operation, account""",
                self.clock.now(),
            )
            # What this process was told a moment ago may not be committed yet; a block never gets shorter.
            now = self.clock.now()
            kept = {name: before for name, before in self._blocks.items() if before > now}
            self._blocks = kept | {(row["operation"], row["account"]): row["before"] for row in rows}
            loads = await self.database.fetch(
                "SELECT account FROM bridge.loads WHERE gap > 0 AND changed_at > $1", now - _LOAD_HOLDS
            )
            self._loaded = {row["account"] for row in loads}
            self._blocks_until = asked + _LOOK_AGAIN_SECONDS

    # Load ---------------------------------------------------------------------------------------

    async def _wait_for_load(self, operation: Operation, account: str, urgent: bool) -> None:
        """Wait for our turn among all replicas while SFCC says that it is under load.

        Within a process the turns go in the order of asking, which for obligations is that of their deadlines.
        Nothing is taken in advance, so that all go on when the load is over.
        """
        await self._learn_blocks()
        if account not in self._loaded:
            return
        deadline = self.clock.now() + self.patience
        async with self._queues.setdefault((account, urgent), asyncio.Lock()):
            while account in self._loaded:
                heard = self._answered
                wait = await self.take_turn(account, urgent)
                if wait is None:
                    return
                if self.clock.now() >= deadline:
                    raise NoSlot(f"{operation.name} of {account} waits: SFCC is under load", retry_seconds=_LONGEST_GAP)
                await self._pause(wait.until, heard)
                await self._learn_blocks()

    async def take_turn(self, account: str, urgent: bool) -> Wait | None:
        """Nothing when one call may leave now, and the next one a gap later; else how long to wait."""
        column, share = ("urgent_at", _URGENT_SHARE) if urgent else ("next_at", 1.0)
        if await self.database.fetchval(
            f"""UPDATE bridge.loads SET {column} = $2 + make_interval(secs => gap * $3)
                WHERE account = $1 AND {column} <= $2 RETURNING true""",
            account,
            self.clock.now(),
            share,
        ):
            return None
        return Wait(await self.database.fetchval(f"SELECT {column} FROM bridge.loads WHERE account = $1", account))

    async def _note_load(self, call: Call, left_at: datetime) -> None:
        """What an answer says of the load. One that left before the gap was last changed says nothing new."""
        if call.status is None or (call.load is None and call.status >= 500):
            return
        now = self.clock.now()

        async def note(end_blockers: bool) -> tuple[float, float]:
            async with self.database.transaction(end_blockers=end_blockers) as rows:
                await rows.execute(
                    """INSERT INTO bridge.loads (account, changed_at, next_at, urgent_at)
                       VALUES ($1, $2::timestamptz - interval '1 second', $2, $2) ON CONFLICT DO NOTHING""",
                    call.account,
                    left_at,
                )
                row = await rows.fetchrow(
                    "SELECT gap, changed_at FROM bridge.loads WHERE account = $1 FOR UPDATE", call.account
                )
                assert row is not None  # no account's row is ever deleted
                if row["changed_at"] >= left_at:
                    return row["gap"], row["gap"]
                # What was told long ago says nothing about today.
                before = row["gap"] if row["changed_at"] > left_at - _LOAD_HOLDS else 0.0
                gap = gap_after(call.load, before)
                await rows.execute(
                    "UPDATE bridge.loads SET gap = $2, changed_at = $3 WHERE account = $1", call.account, gap, now
                )
                return row["gap"], gap

        try:
            before, gap = await patiently(note)
        except Transient as error:
            log.warning("load_not_noted", account=call.account, reason=str(error))
            return
        if gap:
            self._loaded.add(call.account)
        else:
            self._loaded.discard(call.account)
        if gap > before:
            Metrics.slowed_down.add(1, {"operation": call.operation.name, "account": call.account})
            log.warning("load_told", account=call.account, reason=call.load, seconds=gap)


async def _forget_old_objects(rows: Rows, name: tuple[str, str, str], now: datetime) -> None:
    """Throw away the budgets of other objects (imports, exports) that nobody has called about for a day."""
    operation, account, about = name
    await rows.execute(
        "DELETE FROM bridge.calls WHERE operation = $1 AND account = $2 AND about <> '' AND answered_at < $3",
        operation,
        account,
        now - _OBJECTS_KEPT,
    )
    await rows.execute(
        """DELETE FROM bridge.call_budgets WHERE (operation, account, about) IN (
               SELECT operation, account, about FROM bridge.call_budgets AS b
               WHERE operation = $1 AND account = $2 AND about <> ''
                 AND (blocked_before IS NULL OR blocked_before < $3)
                 AND NOT EXISTS (SELECT 1 FROM bridge.calls AS c
                                 WHERE (c.operation, c.account, c.about) = (b.operation, b.account, b.about))
                 AND NOT EXISTS (SELECT 1 FROM bridge.call_waiters AS w
                                 WHERE (w.operation, w.account, w.about) = (b.operation, b.account, b.about))
                 AND about <> $4
               LIMIT 1000 FOR UPDATE SKIP LOCKED)""",
        operation,
        account,
        now,
        about,
    )


def blocked_before(call: Call, now: datetime) -> datetime | None:
    """Until when a call's answer holds its operation back: what `Retry-After` says, a minute for a bare 429."""
    if call.status not in (429, 503):
        return None
    if call.retry_after_seconds is not None:
        return now + timedelta(seconds=call.retry_after_seconds)
    return now + timedelta(seconds=_BLOCKED_WITHOUT_WORD_SECONDS) if call.status == 429 else None
