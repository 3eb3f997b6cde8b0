"""A breaker per account: a shop that answers nothing is asked nothing, and asks for a person once.

State is PostgreSQL's, shared by all replicas of all services. After several failures in a row, or one
refused key, the account is closed off; when its time has come one probe goes out, and its success lets
everything flow again. Whoever opens the breaker opens its one case, and the same service closes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from shared.cases import close_cases, open_case
from shared.database import Conflict, Database, Disconnected, Locked
from shared.errors import Refused, Transient, UnknownOutcome
from shared.leases import LeaseLost
from shared.outbox import Now, Outbox, Transaction

log = structlog.get_logger(__name__)

CASE_CODE: Final = "shop-unreachable"
_KEY_REFUSED: Final = (401, 403)
_PROBE_SECONDS: Final = 60.0


class BreakerOpen(Transient):
    """The account is closed off; nothing was sent."""


def blames_account(error: BaseException) -> bool:
    """Whether an error says something about the account rather than about one request.

    A refused key does, and so do failures and silence of the remote system. A slow-down (429) does not:
    the call budget sees to it. Our own database's troubles do not either.
    """
    match error:
        case Refused():
            return error.status in _KEY_REFUSED
        case Conflict() | Locked() | Disconnected() | LeaseLost() | BreakerOpen():
            return False
        case Transient():
            return error.retry_seconds is None
        case UnknownOutcome():
            return True
    return False


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When an account is closed off, and for how long (business time)."""

    failures: int = 5
    first_seconds: float = 30.0
    longest_seconds: float = 600.0

    def pause_seconds(self, openings: int) -> float:
        """Doubling with every probe that failed."""
        return float(min(self.first_seconds * 2.0 ** min(openings, 30), self.longest_seconds))


@dataclass(frozen=True, slots=True)
class Look:
    """Which accounts may be called."""

    closed_off: frozenset[str] = frozenset()
    probing: frozenset[str] = frozenset()
    """One call of ours may go out to each of these."""


class Breaker:
    """The breakers as one process sees them; `holder` is unique per process start."""

    def __init__(self, database: Database, clock: Now, holder: str, thresholds: Thresholds | None = None) -> None:
        self.database = database
        self.clock = clock
        self.holder = holder
        self.thresholds = thresholds or Thresholds()
        self._failing: frozenset[str] = frozenset()

    async def look(self) -> Look:
        """Who is closed off; takes the probe of an account whose time has come, if nobody else has it."""
        rows = await self.database.fetch("SELECT account, retry_at FROM bridge.breakers WHERE failures > 0")
        self._failing = frozenset(row["account"] for row in rows)
        closed = {row["account"]: row["retry_at"] for row in rows if row["retry_at"] is not None}
        if not closed:
            return Look()
        due = sorted(account for account, retry_at in closed.items() if retry_at <= self.clock.now())
        probes: frozenset[str] = frozenset()
        if due:
            taken = await self.database.fetch(
                """UPDATE bridge.breakers
                   SET probe_holder = $2, probe_until = clock_timestamp() + make_interval(secs => $3)
                   WHERE account = ANY($1) AND retry_at <= $4
                     AND (probe_until IS NULL OR probe_until < clock_timestamp() OR probe_holder = $2)
                   RETURNING account""",
                due,
                self.holder,
                _PROBE_SECONDS,
                self.clock.now(),
            )
            probes = frozenset(row["account"] for row in taken)
        return Look(frozenset(closed) - probes, probes)

    async def note(self, tx: Transaction, account: str, error: BaseException | None, *, times: int = 1) -> None:
        """What `times` calls to the account came to, with the transaction that stores their outcome."""
        if error is None or (isinstance(error, Refused) and not blames_account(error)):
            await self._succeeded(tx, account)
        elif blames_account(error):
            await self._failed(tx, account, error, times)

    async def _succeeded(self, tx: Transaction, account: str) -> None:
        # Success is the rule and must cost nothing: only an account known to fail is written.
        if account not in self._failing:
            return
        self._failing -= {account}
        await tx.execute(
            """UPDATE bridge.breakers SET failures = 0, reason = '', opened_at = NULL, retry_at = NULL, openings = 0,
                      probe_holder = NULL, probe_until = NULL WHERE account = $1""",
            account,
        )
        await self.close_cases(tx)

    async def _failed(self, tx: Transaction, account: str, error: BaseException, times: int) -> None:
        self._failing |= {account}
        now = self.clock.now()
        refused = isinstance(error, Refused)
        row = await tx.fetchrow(
            """INSERT INTO bridge.breakers AS b (account, failures, reason) VALUES ($1, $3, $2)
               ON CONFLICT (account) DO UPDATE SET failures = b.failures + $3, reason = excluded.reason
               RETURNING failures, opened_at, retry_at, openings, case_service""",
            account,
            str(error)[:500],
            times,
        )
        assert row is not None  # the statement inserts or updates
        if row["opened_at"] is None and not refused and row["failures"] < self.thresholds.failures:
            return
        if row["retry_at"] is not None and row["retry_at"] > now:
            return  # Closed off already: this call was under way when that happened.
        await tx.execute(
            """UPDATE bridge.breakers SET opened_at = coalesce(opened_at, $2), retry_at = $3, openings = openings + 1,
                      probe_holder = NULL, probe_until = NULL, case_service = coalesce(case_service, $4)
               WHERE account = $1""",
            account,
            now,
            now + timedelta(seconds=self.thresholds.pause_seconds(row["openings"])),
            tx.service,
        )
        if row["case_service"] is None:
            await self._open_case(tx, account, error, row)
        log.warning("breaker_opened", account=account, error=type(error).__name__, count=row["failures"])

    async def _open_case(self, tx: Transaction, account: str, error: BaseException, row: Mapping[str, Any]) -> None:
        marketplace, _, shop = account.partition("/")
        await open_case(
            tx,
            CASE_CODE,
            about=f"account/{account}",
            cause=f"account/{account}",
            marketplace=marketplace if shop else None,
            shop=shop or None,
            facts={"reason": str(error)[:500], "failures": str(row["failures"])},
        )

    async def close_cases(self, tx: Transaction) -> None:
        """Close the cases this service opened for accounts that answer again, whoever found that out."""
        rows = await tx.fetch(
            """UPDATE bridge.breakers SET case_service = NULL WHERE case_service = $1 AND opened_at IS NULL
               RETURNING account""",
            tx.service,
        )
        for row in rows:
            await close_cases(tx, cause=f"account/{row['account']}", code=CASE_CODE, explanation="A call succeeded.")

    async def tend(self, outbox: Outbox) -> None:
        """To be called now and then: another service's success closes our case too."""
        if await self.database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM bridge.breakers WHERE case_service = $1 AND opened_at IS NULL)",
            outbox.service,
        ):
            async with outbox.transaction() as tx:
                await self.close_cases(tx)

    @asynccontextmanager
    async def guard(self, account: str, outbox: Outbox) -> AsyncIterator[None]:
        """For polls: let the block call the account, and note what came of it.

        Raises:
            BreakerOpen: the account is closed off.
        """
        look = await self.look()
        if account in look.closed_off:
            raise BreakerOpen(f"{account} is closed off after failures; one probe at a time is sent", retry_seconds=5.0)
        try:
            yield
        except (Refused, Transient, UnknownOutcome) as error:
            if blames_account(error):
                async with outbox.transaction() as tx:
                    await self.note(tx, account, error)
            raise
        if account in self._failing:
            async with outbox.transaction() as tx:
                await self.note(tx, account, None)
