"""Breakers: what answers nothing is asked nothing, and a person is asked once.

State is PostgreSQL's, shared by all replicas of all services. Closed off is the smallest thing that an
error speaks of:

- silence and failures in a row: the **account**, for every stage;
- 401: the **key** that was refused, for every stage that sends it and no other. A key is known by what
  the settings call it. SFCC's tokens are good until they end, so only its token services speak of keys;
- 403: a role or permission lacks for one operation while the key is good for all others, so what waits
  is that **work**: obligations of one kind for one account. A poll goes on at its own pace, since one
  call a minute harms nobody and nothing queues behind it; it asks for a person all the same.

When its time has come one probe goes out, and its success lets everything flow again: few calls at first
(`in_flight`) where a probe had failed before, since much waits after an outage; all at once after a hiccup.
What closed off a key or a work is lifted only by an answer that grants that very key or operation
(`shared.operations.hear`). Whoever opens a breaker opens its one case, and the same service closes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from shared.cases import close_cases, open_case
from shared.database import Conflict, Database, Disconnected, Locked
from shared.errors import BridgeError, Refused, Transient, UnknownOutcome
from shared.leases import LeaseLost
from shared.operations import listening
from shared.outbox import Now, Outbox, Transaction

log = structlog.get_logger(__name__)

CASE_CODE: Final = "shop-unreachable"
FIRST_IN_FLIGHT: Final = 2
"""Calls at once when an outage is over."""
LAST_IN_FLIGHT: Final = 64
"""So many, and there is no bound any more."""
RAMP_WITHIN: Final = timedelta(minutes=2)
"""A process that did not see the outage begins with few calls too, if it ended so lately."""
RAMP_LASTS: Final = timedelta(hours=1)
"""What has answered little by then is not asked much: after that it is as if there had been no outage."""
_REFUSALS: Final = (401, 403)
_PROBE_SECONDS: Final = 60.0


class BreakerOpen(Transient):
    """The account, or the key for it, is closed off; nothing was sent."""


def blames_account(error: BaseException) -> bool:
    """Whether an error says something about more than its one request.

    A refused key and a missing permission do, and so do failures and silence of the remote system. A
    slow-down (429, or a 503 that names a time or a load) does not: the call budget sees to it. Our own
    database's troubles do not either. Where an outcome is unknown for what became of a later call, that
    call says it.
    """
    match error:
        case Refused():
            return error.status in _REFUSALS
        case Conflict() | Locked() | Disconnected() | LeaseLost() | BreakerOpen():
            return False
        case Transient():
            return error.retry_seconds is None
        case UnknownOutcome():
            later = error.__cause__
            return blames_account(later) if isinstance(later, BridgeError) else True
    return False


def in_flight(answers: int) -> int | None:
    """How many calls may be under way after so many answers since an outage ended; `None`: no bound.

    One more with every answer, so that their number doubles with every round trip, however long that
    takes, and a system that is slow to recover is asked slowly.
    """
    allowed = FIRST_IN_FLIGHT + answers
    return allowed if allowed < LAST_IN_FLIGHT else None


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
    """What may be called. The names are those of `Breaker.names`."""

    closed_off: frozenset[str] = frozenset()
    due: frozenset[str] = frozenset()
    """Of these, what may be probed by whoever takes the probe."""
    probing: frozenset[str] = frozenset()
    """One call of ours may go out to each of these."""
    ramps: Mapping[str, int] = field(default_factory=dict)
    """Answers since an outage ended."""

    @property
    def is_calm(self) -> bool:
        """Nothing is closed off, and nothing was lately."""
        return not (self.closed_off or self.probing or self.ramps)

    def most(self, names: Collection[str], otherwise: int) -> int:
        """How many calls that need all of these names may be under way in this process: `otherwise` at most."""
        if not self.closed_off.isdisjoint(names):
            return 0
        if not self.probing.isdisjoint(names):
            return 1
        bounds = [in_flight(self.ramps[name]) for name in names if name in self.ramps]
        return min([otherwise, *(bound for bound in bounds if bound is not None)])


class Breaker:
    """The breakers as one process of a service sees them; `holder` is unique per process start.

    `keys` are, per account, the keys that this service sends; `known` all keys of the settings and `accounts`
    all accounts, where what is named there no more is to be forgotten.
    """

    def __init__(
        self,
        database: Database,
        clock: Now,
        holder: str,
        thresholds: Thresholds | None = None,
        *,
        keys: Mapping[str, Collection[str]] | None = None,
        known: Collection[str] | None = None,
        accounts: Collection[str] | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.holder = holder
        self.thresholds = thresholds or Thresholds()
        self.keys = {account: tuple(map(_key, names)) for account, names in (keys or {}).items()}
        self._known = None if known is None else [_key(name) for name in known]
        self._accounts = accounts
        self._failing: dict[str, str | None] = {}
        self._closed: frozenset[str] = frozenset()
        self._probing: frozenset[str] = frozenset()
        self._ramps: dict[str, int] = {}
        self._reopened: dict[str, datetime] = {}

    def names(self, account: str, service: str = "", work: str = "") -> tuple[str, ...]:
        """What a call needs: its account, this service's keys for it, and its own kind of work where it has one."""
        own = (work_name(account, service, work),) if work else ()
        return (account, *self.keys.get(account, ()), *own)

    def ramping(self, name: str) -> bool:
        """Whether few calls only go out, since an outage ended a moment ago."""
        return name in self._ramps and self._reopened[name] > self.clock.now() - RAMP_LASTS

    async def look(self) -> Look:
        """What is closed off, and what was until a moment ago. Takes no probe."""
        now = self.clock.now()
        rows = await self.database.fetch(
            """SELECT account AS name, proof, failures + refusals AS failing, retry_at, reopened_at FROM bridge.breakers
               WHERE failures > 0 OR refusals > 0 OR reopened_at > $1 OR account = ANY($2)""",
            now - RAMP_WITHIN,
            sorted(self._closed),
        )
        self._failing = {row["name"]: row["proof"] for row in rows if row["failing"]}
        closed = {row["name"]: row["retry_at"] for row in rows if row["retry_at"] is not None}
        for row in rows:
            reopened_at = row["reopened_at"]
            if row["name"] not in closed and reopened_at is not None and reopened_at > now - RAMP_WITHIN:
                self._begin_ramp(row["name"], reopened_at)
        for name in [name for name in self._ramps if not self.ramping(name)]:
            del self._ramps[name]
        self._closed = frozenset(closed)
        self._probing &= self._closed
        for name in closed:
            # Closed again; or opened by an outcome that is being stored, and its ramp begins at the next look.
            self._ramps.pop(name, None)
            self._reopened.pop(name, None)
        due = frozenset(name for name, retry_at in closed.items() if retry_at <= now)
        return Look(self._closed, due, frozenset(), dict(self._ramps))

    async def probe(self, look: Look, wanted: Collection[str]) -> Look:
        """Take the probes of what is `wanted`, has its time, and is nobody else's; the look with them."""
        names = sorted(look.due.intersection(wanted))
        if not names:
            return look
        taken = await self.database.fetch(
            """UPDATE bridge.breakers
               SET probe_holder = $2, probe_until = clock_timestamp() + make_interval(secs => $3)
               WHERE account = ANY($1) AND retry_at <= $4
                 AND (probe_until IS NULL OR probe_until < clock_timestamp() OR probe_holder = $2)
               RETURNING account""",
            names,
            self.holder,
            _PROBE_SECONDS,
            self.clock.now(),
        )
        probes = frozenset(row["account"] for row in taken)
        self._probing |= probes
        return Look(look.closed_off - probes, look.due - probes, probes, look.ramps)

    async def note(
        self,
        tx: Transaction,
        account: str,
        error: BaseException | None,
        *,
        times: int = 1,
        work: str = "",
        heard: Collection[str] = (),
    ) -> None:
        """What `times` calls to the account came to, with the transaction that stores their outcome.

        `work` is the kind of obligation; `heard` what the answers granted (`shared.operations.listening`).
        """
        answered = error is None or isinstance(error, Refused)
        good = [
            name
            for name, proof in self._failing.items()
            if self._concerns(name, account, tx.service) and (answered if proof is None else proof in heard)
        ]
        if answered:
            self._climb(self.names(account, tx.service, work), times)
        if good:
            await self._succeeded(tx, good)
        failed = ""
        if error is not None and blames_account(error):
            failed, proof = _closed_by(error, account, tx.service, work)
            await self._failed(tx, failed, proof, account, error, times)
        await self._hand_back(tx, self._probing.intersection(self.names(account, tx.service, work)) - {failed})

    def _concerns(self, name: str, account: str, service: str) -> bool:
        return name in self.names(account) or name.startswith(work_name(account, service, ""))

    def _begin_ramp(self, name: str, reopened_at: datetime) -> None:
        if self._reopened.get(name) != reopened_at:
            self._reopened[name] = reopened_at
            self._ramps[name] = 0

    def _climb(self, names: Collection[str], answers: int) -> None:
        for name in self._ramps.keys() & set(names):
            self._ramps[name] += answers
            if in_flight(self._ramps[name]) is None:
                del self._ramps[name]

    async def _succeeded(self, tx: Transaction, names: Collection[str]) -> None:
        # Success is the rule and must cost nothing: only what is known to fail is written.
        for name in names:
            del self._failing[name]
        self._closed -= frozenset(names)
        self._probing -= frozenset(names)
        now = self.clock.now()
        rows = await tx.fetch(
            """UPDATE bridge.breakers SET failures = 0, refusals = 0, reason = '', opened_at = NULL, retry_at = NULL,
                      openings = 0, probe_holder = NULL, probe_until = NULL,
                      reopened_at = CASE WHEN openings > 1 THEN $2 ELSE reopened_at END
               WHERE account = ANY($1) RETURNING account, reopened_at""",
            sorted(names),
            now,
        )
        for row in rows:
            if row["reopened_at"] == now:
                self._begin_ramp(row["account"], now)
        await self.close_cases(tx)

    async def _failed(
        self, tx: Transaction, name: str, proof: str | None, account: str, error: BaseException, times: int
    ) -> None:
        again = self.ramping(name)  # the outage goes on, and its end will be an outage's
        at_once = proof is not None or again
        self._failing[name] = proof
        now = self.clock.now()
        row = await tx.fetchrow(
            """INSERT INTO bridge.breakers AS b (account, failures, refusals, reason, proof) VALUES ($1, $3, $4, $2, $5)
               ON CONFLICT (account) DO UPDATE SET failures = b.failures + $3, refusals = b.refusals + $4,
                   reason = excluded.reason, proof = excluded.proof
               RETURNING failures, refusals, opened_at, retry_at, openings, case_service""",
            name,
            str(error)[:500],
            times if proof is None else 0,
            0 if proof is None else times,
            proof,
        )
        assert row is not None  # the statement inserts or updates
        if row["opened_at"] is None and not at_once and row["failures"] < self.thresholds.failures:
            return
        if row["retry_at"] is not None and row["retry_at"] > now:
            return  # Closed off already: this call was under way when that happened.
        self._probing -= {name}
        openings = max(row["openings"], int(again))
        await tx.execute(
            """UPDATE bridge.breakers SET opened_at = coalesce(opened_at, $2), retry_at = $3, openings = $5,
                      probe_holder = NULL, probe_until = NULL, case_service = coalesce(case_service, $4)
               WHERE account = $1""",
            name,
            now,
            now + timedelta(seconds=self.thresholds.pause_seconds(openings)),
            tx.service,
            openings + 1,
        )
        if row["case_service"] is None:
            await self._open_case(tx, name, account, error, row["failures"] + row["refusals"])
        log.warning("breaker_opened", account=name, error=type(error).__name__, count=row["failures"])

    async def _hand_back(self, tx: Transaction, names: frozenset[str]) -> None:
        """Probes whose call said nothing of what they were to find out: another call, or process, may have them."""
        if names:
            self._probing -= names
            await tx.execute(
                """UPDATE bridge.breakers SET probe_holder = NULL, probe_until = NULL
                   WHERE account = ANY($1) AND probe_holder = $2""",
                sorted(names),
                self.holder,
            )

    async def _open_case(self, tx: Transaction, name: str, account: str, error: BaseException, failures: int) -> None:
        marketplace, _, shop = account.partition("/")
        facts: dict[str, Any] = {"reason": str(error)[:500], "failures": str(failures)}
        about, title = f"account/{account}", None
        if isinstance(error, Refused):
            facts["operation"] = error.operation
            if error.key:
                facts["key"] = error.key
                title = f"The key {error.key} is refused"
                about = f"key/{error.key}"
            else:
                title = f"{account} does not permit {error.operation} to {tx.service}"
                about = f"operation/{name}"
        await open_case(
            tx,
            CASE_CODE,
            about=about,
            title=title,
            cause=f"account/{name}",
            marketplace=marketplace if shop else None,
            shop=shop or None,
            facts=facts,
        )

    async def close_cases(self, tx: Transaction, explanation: str = "A call succeeded.") -> None:
        """Close the cases this service opened for what answers again, whoever found that out."""
        rows = await tx.fetch(
            """UPDATE bridge.breakers SET case_service = NULL WHERE case_service = $1 AND opened_at IS NULL
               RETURNING account""",
            tx.service,
        )
        for row in rows:
            await close_cases(tx, cause=f"account/{row['account']}", code=CASE_CODE, explanation=explanation)

    async def tend(self, outbox: Outbox) -> None:
        """To be called now and then: our case ends with another service's success too, and with its thing's end."""
        rows = await self.database.fetch(
            "SELECT account AS name, opened_at FROM bridge.breakers WHERE case_service = $1", outbox.service
        )
        if any(row["opened_at"] is None for row in rows):
            async with outbox.transaction() as tx:
                await self.close_cases(tx)
        if forgotten := [row["name"] for row in rows if self._is_forgotten(row["name"])]:
            async with outbox.transaction() as tx:
                await tx.execute(
                    """UPDATE bridge.breakers SET failures = 0, refusals = 0, opened_at = NULL, retry_at = NULL,
                              openings = 0, probe_holder = NULL, probe_until = NULL WHERE account = ANY($1)""",
                    forgotten,
                )
                await self.close_cases(tx, "The settings name it no more.")

    def _is_forgotten(self, name: str) -> bool:
        """Whether the settings name the key, or the account that it is about, no more: nobody will ever call it."""
        if name.startswith(_key("")):
            return self._known is not None and name not in self._known
        return self._accounts is not None and name.partition(" ")[0] not in self._accounts

    @asynccontextmanager
    async def guard(self, account: str, outbox: Outbox) -> AsyncIterator[None]:
        """For polls: let the block call the account, and note what came of it.

        Raises:
            BreakerOpen: the account, or our key for it, is closed off.
        """
        names = self.names(account)
        look = await self.look()
        closed = look.closed_off.intersection(names)
        if closed and closed <= look.due:
            look = await self.probe(look, closed)
        if not look.most(names, 1):
            raise BreakerOpen(f"{account} is closed off after failures; one probe at a time is sent", retry_seconds=5.0)
        heard: set[str] = set()
        try:
            with listening(heard):
                yield
        except (Refused, Transient, UnknownOutcome) as error:
            await self._note_poll(outbox, account, error, heard)
            raise
        await self._note_poll(outbox, account, None, heard)

    async def _note_poll(
        self, outbox: Outbox, account: str, error: BaseException | None, heard: Collection[str]
    ) -> None:
        blamed = error is not None and blames_account(error)
        if blamed or any(self._concerns(name, account, outbox.service) for name in self._failing):
            async with outbox.transaction() as tx:
                await self.note(tx, account, error, heard=heard)
        elif error is None:
            self._climb(self.names(account), 1)


def work_name(account: str, service: str, work: str) -> str:
    """What a breaker of one kind of work is called."""
    return f"{account} {service}/{work}"


def _key(name: str) -> str:
    return f"key {name}"


def _closed_by(error: BaseException, account: str, service: str, work: str) -> tuple[str, str | None]:
    """What an error closes off, and what lifts that: `None` for any answer."""
    if not isinstance(error, Refused):
        return account, None
    if error.key:
        return _key(error.key), error.key
    return work_name(account, service, work or error.operation), error.operation
