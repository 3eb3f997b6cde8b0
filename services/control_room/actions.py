"""What people do, as events: a version drawn under a lock, published and shown in one transaction.

What pages show of an action is written by the projector that reads the topic, so that a person sees after
a form what a replay would make of its event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, cast

import msgspec

from services.control_room import projections
from services.control_room.access import Person
from shared.codec import decode
from shared.database import Rows, patiently
from shared.envelope import Envelope
from shared.errors import BridgeError
from shared.events.base import Event
from shared.events.control import (
    OperatorAction,
    OperatorAnsweredOrder,
    OperatorClosedCase,
    OperatorDecidedHold,
    OperatorNotedCase,
    OperatorSettledObligation,
    RuleRemoved,
    RuleSet,
)
from shared.events.decisions import LineAnswer
from shared.events.keys import order_key
from shared.handlers import Received
from shared.mappings import Mapped, MappingTable
from shared.outbox import Outbox, Transaction, event_id
from shared.rules import Rule
from shared.telemetry import new_traceparent

T = TypeVar("T")

ActingRole = Literal["operations", "finance", "admin"]
Settled = Literal["happened", "did-not-happen", "give-up"]


class ChangedMeanwhile(BridgeError):
    """Somebody else changed the line after the form was made: the person looks again and decides."""


@dataclass(slots=True)
class Desk:
    """Where people's decisions are written."""

    outbox: Outbox

    async def set_mapping(
        self,
        person: Person,
        table: MappingTable[Any],
        marketplace: str,
        left: str,
        to: Mapped,
        *,
        reason: str | None = None,
        seen: str | None = None,
    ) -> bool:
        """Map a value from now on; False where it was mapped just so already.

        `seen` is what the person saw there before, as `line_of` writes it.

        Raises:
            InvalidMapping: the table cannot hold it.
            ChangedMeanwhile: something else stands there by now.
        """

        async def write(tx: Transaction) -> bool:
            event = await table.set(tx, marketplace, left, to, by=person.id, reason=reason)
            if event is not None:
                _refuse_if_changed(seen, line_of(event.old_right, event.old_extras))
            return event is not None

        return await self._write(write)

    async def remove_mapping(
        self,
        person: Person,
        table: MappingTable[Any],
        marketplace: str,
        left: str,
        *,
        reason: str | None = None,
        seen: str | None = None,
    ) -> bool:
        """Map a value to nothing any more; False where nothing was there.

        Raises:
            ChangedMeanwhile: something else stands there by now.
        """

        async def write(tx: Transaction) -> bool:
            event = await table.remove(tx, marketplace, left, by=person.id, reason=reason)
            if event is not None:
                _refuse_if_changed(seen, line_of(event.old_right, event.old_extras))
            return event is not None

        return await self._write(write)

    async def set_rule(
        self,
        person: Person,
        rule: Rule[Any],
        marketplace: str,
        shop: str,
        to: Any,
        *,
        reason: str | None = None,
        seen: str | None = None,
    ) -> bool:
        """Let a rule hold from now on, or no longer where `to` is None; False where that is so already.

        Raises:
            InvalidRule: the rule does not take these settings.
            ChangedMeanwhile: other settings hold by now.
        """

        async def write(tx: Transaction) -> bool:
            event: RuleSet | RuleRemoved | None
            if to is None:
                event = await rule.remove(tx, marketplace, shop, by=person.id, reason=reason)
            else:
                event = await rule.set(tx, marketplace, shop, to, by=person.id, reason=reason)
            if event is not None:
                _refuse_if_changed(seen, line_of(event.old_settings, {}))
            return event is not None

        return await self._write(write)

    async def note_case(
        self,
        person: Person,
        case_id: str,
        *,
        taken: bool = False,
        owner_team: str | None = None,
        note: str | None = None,
    ) -> None:
        """Take a case, give it to another team, or write down what was found."""

        async def write(tx: Transaction) -> None:
            await self._act(
                tx,
                OperatorNotedCase(
                    about=f"case/{case_id}",
                    by=person.id,
                    role=_acting(person),
                    at=tx.time,
                    case_id=case_id,
                    taken=taken,
                    owner_team=owner_team,
                    note=note,
                ),
            )

        await self._write(write)

    async def close_case(
        self, person: Person, case_id: str, service: str, opened_at: datetime, *, explanation: str
    ) -> None:
        """Close a case that nothing else closes; the service that opened it does so."""

        async def write(tx: Transaction) -> None:
            await self._act(
                tx,
                OperatorClosedCase(
                    about=f"case/{case_id}",
                    by=person.id,
                    role=_acting(person),
                    at=tx.time,
                    service=service,
                    case_id=case_id,
                    opened_at=opened_at,
                    explanation=explanation,
                ),
            )

        await self._write(write)

    async def answer_order(
        self,
        person: Person,
        marketplace: str,
        order_id: str,
        lines: Sequence[LineAnswer],
        *,
        case_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Say what to answer to an order; the acceptor acts on it."""

        async def write(tx: Transaction) -> None:
            await self._act(
                tx,
                OperatorAnsweredOrder(
                    about="order/" + order_key(marketplace, order_id),
                    by=person.id,
                    role=_acting(person),
                    at=tx.time,
                    reason=reason,
                    marketplace=marketplace,
                    order_id=order_id,
                    lines=tuple(lines),
                    case_id=case_id,
                ),
            )

        await self._write(write)

    async def decide_hold(
        self, person: Person, about: str, service: str, case_id: str, *, approved: bool, reason: str | None = None
    ) -> None:
        """Approve or discard what a guard held back."""

        async def write(tx: Transaction) -> None:
            await self._act(
                tx,
                OperatorDecidedHold(
                    about=about,
                    by=person.id,
                    role=_acting(person),
                    at=tx.time,
                    reason=reason,
                    service=service,
                    case_id=case_id,
                    approved=approved,
                ),
            )

        await self._write(write)

    async def settle_obligation(
        self,
        person: Person,
        about: str,
        service: str,
        obligation_id: str,
        outcome: Settled,
        *,
        reason: str | None = None,
    ) -> None:
        """Say what became of a call whose answer was lost."""

        async def write(tx: Transaction) -> None:
            await self._act(
                tx,
                OperatorSettledObligation(
                    about=about,
                    by=person.id,
                    role=_acting(person),
                    at=tx.time,
                    reason=reason,
                    service=service,
                    obligation_id=obligation_id,
                    outcome=outcome,
                ),
            )

        await self._write(write)

    async def _act(self, tx: Transaction, event: OperatorAction) -> None:
        """Publish under the object's next version, and show what every reader will show."""
        await tx.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"operator-actions/{event.about}")
        version = await tx.fetchval(
            "SELECT coalesce(max(version), 0) + 1 FROM room_actions WHERE about = $1", event.about
        )
        topic, schema = self.outbox.place_of(type(event))
        traceparent = new_traceparent(topic.name)
        tx.publish(event, sequence=version, traceparent=traceparent)
        envelope = Envelope(
            id=event_id(topic.name, event.key, version),
            source=self.outbox.source,
            type=event.TYPE,
            time=tx.time,
            subject=event.key,
            sequence=version,
            dataschema=schema,
            traceparent=traceparent,
        )
        await projections.keep_action(Received(event, envelope, topic.name, 0, 0), tx.rows)

    async def _write(self, write: Callable[[Transaction], Awaitable[T]]) -> T:
        async def attempt(end_blockers: bool) -> T:
            async with self.outbox.transaction(end_blockers=end_blockers) as tx:
                return await write(tx)

        return await patiently(attempt)


async def current(rows: Rows) -> AsyncIterator[tuple[Event, int, datetime]]:
    """Every action as the event that told of it, the oldest of each object first, for `bridge republish`."""
    for row in await rows.fetch("SELECT type, payload, version, at FROM room_actions ORDER BY about, version"):
        yield decode(row["type"], row["payload"].encode()), row["version"], row["at"]


def line_of(right: object, extras: Mapping[str, str]) -> str:
    """What a line says, as a form carries it to notice that somebody else was quicker."""
    return msgspec.json.encode([right, sorted(extras.items())]).decode()


def _refuse_if_changed(seen: str | None, stood: str) -> None:
    if seen is not None and seen != stood:
        raise ChangedMeanwhile("something else stands there by now: look at it again, then decide")


def _acting(person: Person) -> ActingRole:
    return cast(ActingRole, person.role)  # A viewer never gets here: pages ask `Person.may` first.
