"""What a service owes the small remote system (`tests.kit.remote`): one kind of each sort, ready to wire.

    async with open_client(url) as client:
        kinds = kinds_of(client)
        obligations = Obligations(outbox, kinds, holder, pace=BRISK)
        …  await owe_effects(tx, guarded=["g1"], states={"s1": 3}, unguarded=["u1"])

In the end a person is played by `settle_unknowns`, and `reckon` counts in the remote system's memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

import aiohttp
import msgspec

from shared.database import Database
from shared.errors import Refused, Transient, UnknownOutcome
from shared.events.control import OperatorSettledObligation
from shared.obligations import (
    Absent,
    Attempt,
    Done,
    Happened,
    Kind,
    Owed,
    Pace,
    Retry,
    Settled,
    owe_all,
    settle_by_person,
)
from shared.outbox import Outbox, Transaction

TIMEOUT_SECONDS: Final = 0.5
"""The client's; the remote system's late effects come after it."""
QUIET_SECONDS: Final = 2.5
"""More than the time-out and the latest effect together."""

BRISK: Final = Pace(lease_seconds=2.0, rescue_seconds=0.3, idle_seconds=0.05, drain_seconds=2.0)
_PATIENT: Final = Retry(first_seconds=0.2, longest_seconds=2.0, until_due=False, for_seconds=None)

TABLES: Final = """
CREATE TABLE IF NOT EXISTS effects_owed (
    kind text NOT NULL, name text NOT NULL, value bigint NOT NULL, n bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (kind, name, value));
CREATE TABLE IF NOT EXISTS effects_settled (
    kind text NOT NULL, name text NOT NULL, value bigint NOT NULL, outcome text NOT NULL, times bigint NOT NULL,
    PRIMARY KEY (kind, name, value, outcome));
"""
"""Put them beside the mechanism's, in the service's schema."""


class Effect(msgspec.Struct, frozen=True):
    """One effect on the remote system; a value only for states."""

    name: str
    value: int = 0


@dataclass(slots=True)
class Client:
    """Calls with one time-out; every error sorted by what is known of the effect."""

    url: str
    session: aiohttp.ClientSession

    async def send(self, method: str, path: str, value: int | None = None) -> Any:
        """One request and its answer.

        Raises:
            Transient: it never left.
            Refused: the remote system said no.
            UnknownOutcome: it left, and no answer came.
        """
        try:
            async with self.session.request(
                method, f"{self.url}/{path}", json=None if value is None else {"value": value}
            ) as response:
                answer = await response.json()
                status = response.status
        except aiohttp.ClientConnectorError as error:
            raise Transient(f"not sent: {type(error).__name__}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnknownOutcome(f"no answer: {type(error).__name__}", operation=method) from error
        if status >= 400:
            raise Refused(f"{method} {path}", operation=method, status=status, code=answer.get("code", ""))
        return answer

    async def look(self, path: str) -> int | None:
        """What a read-back sees."""
        try:
            found: int = (await self.send("GET", path))["value"]
        except Refused as error:
            if error.status == 404:
                return None
            raise
        except UnknownOutcome as error:
            raise Transient(str(error)) from error
        return found

    async def memory(self) -> dict[str, Any]:
        """Everything that happened there, once nothing is on its way any more."""
        while True:
            found: dict[str, Any] = await self.send("GET", "memory")
            if not found["late"]:
                return found
            await asyncio.sleep(0.1)

    async def faults(self, **wanted: object) -> None:
        """How calls are hit from now on: `share`, `modes`, `next`."""
        async with self.session.post(f"{self.url}/faults", json=wanted):
            return


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[Client]:
    """A client that sends nothing twice by itself."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)) as session:
        session._retry_connection = False
        yield Client(url, session)


def kinds_of(client: Client) -> list[Kind[Effect]]:
    """A guarded, an overwriting and an unguarded kind towards the remote system."""

    async def do_guarded(effect: Effect, attempt: Attempt) -> Any:
        return await client.send("PUT", f"guarded/{effect.name}")

    async def do_state(effect: Effect, attempt: Attempt) -> Any:
        return await client.send("PUT", f"states/{effect.name}", effect.value)

    async def do_unguarded(effect: Effect, attempt: Attempt) -> Any:
        return await client.send("POST", f"unguarded/{effect.name}")

    async def read_guarded(effect: Effect, attempt: Attempt) -> Happened | Absent:
        return Absent() if await client.look(f"guarded/{effect.name}") is None else Happened()

    async def read_state(effect: Effect, attempt: Attempt) -> Happened | Absent:
        return Happened() if await client.look(f"states/{effect.name}") == effect.value else Absent()

    async def read_unguarded(effect: Effect, attempt: Attempt) -> Happened | Absent:
        return Absent() if await client.look(f"unguarded/{effect.name}") is None else Happened()

    def kind(name: Literal["guarded", "overwriting", "unguarded"], perform: Any, read: Any) -> Kind[Effect]:
        async def note(settled: Settled[Effect], tx: Transaction) -> None:
            await tx.execute(
                """INSERT INTO effects_settled AS s VALUES ($1, $2, $3, $4, 1)
                   ON CONFLICT (kind, name, value, outcome) DO UPDATE SET times = s.times + 1""",
                name,
                settled.payload.name,
                settled.payload.value,
                "done" if isinstance(settled.outcome, Done) else "given-up",
            )

        return Kind(
            name=name,
            effect=name,
            payload=Effect,
            perform=perform,
            read=read,
            settle=note,
            timeout_seconds=TIMEOUT_SECONDS,
            quiet_seconds=QUIET_SECONDS,
            retry=_PATIENT,
            attempt_seconds=10.0,
        )

    return [
        kind("guarded", do_guarded, read_guarded),
        kind("overwriting", do_state, read_state),
        kind("unguarded", do_unguarded, read_unguarded),
    ]


async def owe_effects(
    tx: Transaction,
    kinds: Sequence[Kind[Effect]],
    *,
    guarded: Sequence[str] = (),
    states: Mapping[str, int] | None = None,
    unguarded: Sequence[str] = (),
    due: timedelta = timedelta(minutes=10),
    account: str = "remote/1",
) -> None:
    """Owe effects, and write down that they are owed, with this transaction. Names are used once; a state's
    values grow."""
    by_name = {kind.name: kind for kind in kinds}
    wanted = [("guarded", Effect(name)) for name in guarded]
    wanted += [("overwriting", Effect(name, value)) for name, value in (states or {}).items()]
    wanted += [("unguarded", Effect(name)) for name in unguarded]
    await tx.execute(
        "INSERT INTO effects_owed (kind, name, value) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])",
        [kind for kind, _ in wanted],
        [effect.name for _, effect in wanted],
        [effect.value for _, effect in wanted],
    )
    await owe_all(
        tx,
        [
            Owed(by_name[kind], f"{kind}/{effect.name}", effect, tx.time + due, account, f"effect/{effect.name}")
            for kind, effect in wanted
        ],
    )


async def open_count(database: Database) -> int:
    """How many obligations will still go on by themselves."""
    count: int = await database.fetchval("SELECT count(*) FROM obligations WHERE state = 'open'")
    return count


async def settle_unknowns(outbox: Outbox, kinds: Sequence[Kind[Effect]], memory: Mapping[str, Any]) -> int:
    """A person looks at the remote system and settles what is unknown; how many that were.

    To be called when nothing is under way; then wait for `open_count` to be 0 again.
    """
    rows = await outbox.database.fetch("SELECT id, payload FROM obligations WHERE state = 'unknown'")
    for row in rows:
        effect = msgspec.json.decode(row["payload"], type=Effect)
        event = OperatorSettledObligation(
            about=f"effect/{effect.name}",
            by="u-1",
            role="operations",
            at=outbox.clock.now(),
            service=outbox.service,
            obligation_id=str(row["id"]),
            outcome="happened" if memory["unguarded"].get(effect.name) else "did-not-happen",
        )
        async with outbox.transaction() as tx:
            await settle_by_person({kind.name: kind for kind in kinds}, event, tx)
    return len(rows)


async def hit_unguarded(database: Database, memory: Mapping[str, Any]) -> set[str]:
    """Whose unguarded calls were really hit, there or here: never more than these may end as cases."""
    abandoned = await database.fetch(
        """SELECT DISTINCT o.payload FROM obligations AS o JOIN obligation_attempts AS a ON a.obligation_id = o.id
           WHERE o.kind = 'unguarded' AND a.step = 'call' AND a.result = 'abandoned'"""
    )
    return set(memory["hit_unguarded"]) | {msgspec.json.decode(row["payload"], type=Effect).name for row in abandoned}


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What was owed, beside what the remote system remembers."""

    effects: int
    lost: int
    doubled: int
    misnoted: int
    """Noted as done more than once, or not at all."""
    open_cases: int

    @property
    def clean(self) -> bool:
        """Whether the promise held."""
        return not (self.lost or self.doubled or self.misnoted or self.open_cases)


async def reckon(database: Database, memory: Mapping[str, Any]) -> Reckoning:
    """Count, when nothing is open or unknown any more."""
    owed = await database.fetch("SELECT kind, name, max(value) AS value FROM effects_owed GROUP BY kind, name")
    noted = {
        (row["kind"], row["name"], row["value"]): row["times"]
        for row in await database.fetch("SELECT * FROM effects_settled WHERE outcome = 'done'")
    }
    lost = doubled = misnoted = 0
    for row in owed:
        kind, name = row["kind"], row["name"]
        if kind == "overwriting":
            history = memory["states"].get(name, [None])
            lost += history[-1] != row["value"]
            misnoted += (kind, name, row["value"]) not in noted
        else:
            times = memory[kind].get(name, 0)
            lost += times == 0
            doubled += times > 1
            misnoted += noted.get((kind, name, 0)) != 1
    cases = await database.fetchval("SELECT count(*) FROM cases WHERE closed_at IS NULL")
    return Reckoning(len(owed), lost, doubled, misnoted, cases)
