"""Obligations with a remote system that is a script: what it is told, and how each call ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.clock import ManualClock
from shared.database import Database
from shared.errors import UnknownOutcome
from shared.obligations import (
    Absent,
    Attempt,
    Happened,
    Kind,
    Obligations,
    Retry,
    Settled,
    owe,
)
from shared.outbox import Outbox, Transaction
from shared.repeating import Effect
from tests.kit.flow import NOW

SHOP = "worten-pt/2034"


class Wish(msgspec.Struct, frozen=True):
    """What the scripted remote system is asked for."""

    number: int


@dataclass
class Script:
    """A remote system: `calls` are the effects it saw; `ends` says how the next calls end, then all are answered."""

    calls: list[tuple[str, int]] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    ends: list[BaseException | str] = field(default_factory=list)
    read_ends: list[BaseException] = field(default_factory=list)
    shows: Callable[[str, int], bool] | None = None
    settled: list[Settled[Wish]] = field(default_factory=list)
    hook: Callable[[Settled[Wish]], None] = lambda settled: None

    async def perform(self, payload: Wish, attempt: Attempt) -> Any:
        end = self.ends.pop(0) if self.ends else "answer"
        if end in ("answer", "after"):
            self.calls.append((attempt.key, payload.number))
        if isinstance(end, BaseException):
            raise end
        if end != "answer":
            raise UnknownOutcome(f"cut {end} the effect", operation="script")
        return {"number": payload.number}

    async def read(self, payload: Wish, attempt: Attempt) -> Happened | Absent:
        self.reads.append(attempt.key)
        if self.read_ends:
            raise self.read_ends.pop(0)
        there = (
            self.shows(attempt.key, payload.number)
            if self.shows is not None
            else (attempt.key, payload.number) in self.calls[-1:]
        )
        return Happened({"read": payload.number}) if there else Absent()

    async def settle(self, settled: Settled[Wish], tx: Transaction) -> None:
        self.hook(settled)
        self.settled.append(settled)

    def kind(self, effect: Effect, *, readable: bool = True, retry: Retry | None = None, **more: Any) -> Kind[Wish]:
        """One kind of obligation towards it, named for its effect."""
        return Kind(
            name=effect,
            effect=effect,
            payload=Wish,
            perform=self.perform,
            settle=self.settle,
            read=self.read if readable else None,
            timeout_seconds=30,
            quiet_seconds=90,
            retry=retry or Retry(),
            **more,
        )


@dataclass
class Debtor:
    """A service that owes: one schema, a clock that a test moves, and as many replicas as asked for."""

    database: Database
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    script: Script = field(default_factory=Script)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.database, "acceptor", self.clock)
        self.kinds = {
            "guarded": self.script.kind("guarded"),
            "overwriting": self.script.kind("overwriting", retry=Retry(until_due=False, for_seconds=None)),
            "unguarded": self.script.kind("unguarded"),
        }

    def replica(self, name: str = "one", **more: Any) -> Obligations:
        """A worker that is stepped by hand, or run."""
        return Obligations(self.outbox, self.kinds.values(), name, spread=lambda: 1.0, **more)

    async def owe(
        self,
        kind: str,
        key: str = "order/worten-pt/W-1",
        number: int = 1,
        *,
        due: float = 14_400,
        wait: float = 0,
        account: str = SHOP,
    ) -> None:
        """Owe one thing, due and not before so many seconds from now."""
        now = self.clock.now()
        async with self.outbox.transaction() as tx:
            await owe(
                tx,
                self.kinds[kind],
                key=key,
                payload=Wish(number),
                due_at=now + timedelta(seconds=due),
                account=account,
                about=key,
                not_before=now + timedelta(seconds=wait),
            )

    async def turn(self, replica: Obligations, limit: int = 100) -> int:
        """Note, call, note: everything that is ready, once; how much that was."""
        claimed = await replica.claim(limit)
        await replica.settle([(one, await replica.attempt(one)) for one in claimed])
        return len(claimed)

    async def to_end(self, replica: Obligations, *, step_seconds: float = 90.0, steps: int = 400) -> None:
        """Turn, and let time pass, until nothing is open that would run by itself."""
        for _ in range(steps):
            while await self.turn(replica):
                pass
            if not await self.database.fetchval("SELECT count(*) FROM obligations WHERE state = 'open'"):
                return
            self.clock.advance(timedelta(seconds=step_seconds))
        raise AssertionError("obligations are still open")

    async def states(self) -> list[str]:
        """The state of every obligation in their order."""
        return [row["state"] for row in await self.database.fetch("SELECT state FROM obligations ORDER BY id")]

    async def cases(self) -> list[tuple[str, bool]]:
        """Code of every case, and whether it is open."""
        rows = await self.database.fetch(
            "SELECT code, closed_at IS NULL AS open FROM cases ORDER BY opened_at, case_id"
        )
        return [(row["code"], row["open"]) for row in rows]

    async def attempts(self) -> dict[int, list[tuple[str, str]]]:
        """Step and result of every attempt, by obligation."""
        found: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for row in await self.database.fetch(
            "SELECT obligation_id, step, result FROM obligation_attempts ORDER BY obligation_id, number"
        ):
            found[row["obligation_id"]].append((row["step"], row["result"]))
        return dict(found)

    async def end_leases(self) -> None:
        """As if every lease had run out: what a crash leads to, without the wait."""
        await self.database.execute(
            "UPDATE obligation_keys SET leased_until = clock_timestamp() - interval '1 s' WHERE holder IS NOT NULL"
        )


def due_order(claimed: Sequence[Any]) -> list[datetime]:
    """The due times in the order of claiming."""
    return [one.key_due_at for one in claimed]
