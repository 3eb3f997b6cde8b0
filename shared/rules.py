"""Rules that people set, as every service reads them: typed, current, and with their history.

A service projects the topic `rules` into its own schema (`PROJECTORS` belong to its reference consumer)
and asks a `Rule`. What holds for a shop is its own version of the rule, else the one for all shops of the
marketplace, else the default that the settings give. A version holds as a whole: nothing is merged.

Only the control room writes: `Rule.set` and `remove` note who, when, old and new in one event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct

from shared.database import Database, Rows
from shared.errors import Permanent
from shared.events.base import Event
from shared.events.control import RuleRemoved, RuleSet, RuleValue
from shared.handlers import Received, project_batch
from shared.outbox import Transaction

R = TypeVar("R", bound=Struct)

ALL_SHOPS: Final = "*"


class InvalidRule(Permanent):
    """Settings that the rule does not take."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a rule, for a person who asks who changed what."""

    version: int
    settings: Mapping[str, RuleValue] | None
    """None: no longer holds."""
    old_settings: Mapping[str, RuleValue] | None
    by: str
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Rule(Generic[R]):
    """One rule by its name on the topic, and the type of its settings: flat, decimals and units in the names."""

    name: str
    holds: type[R]

    async def find(self, rows: Rows | Database, marketplace: str, shop: str, default: R) -> R:
        """What holds for a shop."""
        found = await rows.fetch(
            """SELECT DISTINCT ON (shop) shop, settings FROM rule_versions
               WHERE marketplace = $1 AND rule = $2 AND shop IN ($3, '*') ORDER BY shop, version DESC""",
            marketplace,
            self.name,
            shop,
        )
        held = {row["shop"]: row["settings"] for row in found if row["settings"] is not None}
        settings = held.get(shop) or held.get(ALL_SHOPS)
        return default if settings is None else self._typed(msgspec.json.decode(settings))

    async def history(self, rows: Rows | Database, marketplace: str, shop: str) -> Sequence[Version]:
        """Every version for a shop, or for all shops, the oldest first."""
        found = await rows.fetch(
            """SELECT version, settings, old_settings, by, at, reason FROM rule_versions
               WHERE marketplace = $1 AND shop = $2 AND rule = $3 ORDER BY version""",
            marketplace,
            shop,
            self.name,
        )
        return [Version(**dict(row) | _decoded(row)) for row in found]

    async def set(
        self, tx: Transaction, marketplace: str, shop: str, to: R, *, by: str, reason: str | None = None
    ) -> RuleSet | None:
        """Let the rule hold for a shop, or for all, and publish that; None where it holds so already.

        Raises:
            InvalidRule: the settings are not what the rule takes.
        """
        settings: dict[str, RuleValue] = msgspec.to_builtins(to)
        try:
            self._typed(settings)
        except msgspec.ValidationError as error:
            raise InvalidRule(f"{self.name}: {error}", rule="invalid-rule", field="settings") from error
        last = await self._lock(tx, marketplace, shop)
        if last is not None and last.settings == settings:
            return None
        event = RuleSet(
            marketplace=marketplace,
            shop=shop,
            rule=self.name,
            by=by,
            at=tx.time,
            reason=reason,
            settings=settings,
            old_settings=dict(last.settings) if last and last.settings is not None else None,
        )
        await _write(tx, event, last)
        return event

    async def remove(
        self, tx: Transaction, marketplace: str, shop: str, *, by: str, reason: str | None = None
    ) -> RuleRemoved | None:
        """Let the rule hold no longer, and publish that; None where it does not hold."""
        last = await self._lock(tx, marketplace, shop)
        if last is None or last.settings is None:
            return None
        event = RuleRemoved(
            marketplace=marketplace,
            shop=shop,
            rule=self.name,
            by=by,
            at=tx.time,
            reason=reason,
            old_settings=dict(last.settings),
        )
        await _write(tx, event, last)
        return event

    async def _lock(self, tx: Transaction, marketplace: str, shop: str) -> Version | None:
        """The newest version, with the rule locked until the transaction ends: also one that is not there yet."""
        await tx.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"rules/{marketplace}/{shop}/{self.name}"
        )
        versions = await self.history(tx, marketplace, shop)
        return versions[-1] if versions else None

    def _typed(self, settings: Mapping[str, RuleValue]) -> R:
        return msgspec.convert(settings, self.holds, strict=False)


async def _write(tx: Transaction, event: RuleSet | RuleRemoved, last: Version | None) -> None:
    version = last.version + 1 if last else 1
    await _insert(tx, [(event, version)])
    tx.publish(event, sequence=version)


async def keep(events: Sequence[Received[Any]], rows: Rows) -> None:
    """Note versions of rules; harmless to repeat, in any order."""
    await _insert(rows, [(received.event, received.envelope.sequence) for received in events])


async def _insert(rows: Rows, versions: Sequence[tuple[RuleSet | RuleRemoved, int]]) -> None:
    # Sorted, so that two consumers of one service that keep the same rules queue up rather than deadlock.
    ordered = sorted(versions, key=lambda pair: (pair[0].key, pair[1]))
    lines = [
        (
            event.marketplace,
            event.shop,
            event.rule,
            version,
            _json(event.settings if isinstance(event, RuleSet) else None),
            _json(event.old_settings),
            event.by,
            event.at,
            event.reason,
        )
        for event, version in ordered
    ]
    await rows.execute(
        """INSERT INTO rule_versions
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::jsonb[], $6::jsonb[],
                                $7::text[], $8::timestamptz[], $9::text[])
           ON CONFLICT DO NOTHING""",
        *zip(*lines, strict=True),
    )


PROJECTORS: Final = (project_batch(RuleSet, keep, "state"), project_batch(RuleRemoved, keep, "state"))
"""For a service's reference consumer."""


async def current(rows: Rows) -> AsyncIterator[tuple[Event, int, datetime]]:
    """Every version as the event that made it, the oldest of each rule first, for a topic that was lost."""
    for row in await rows.fetch("SELECT * FROM rule_versions ORDER BY marketplace, shop, rule, version"):
        values = dict(row) | _decoded(row)
        version, settings = values.pop("version"), values.pop("settings")
        if settings is None:
            yield RuleRemoved(**values), version, row["at"]
        else:
            yield RuleSet(**values, settings=settings), version, row["at"]


def _json(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if row[name] is None else msgspec.json.decode(row[name]) for name in ("settings", "old_settings")
    }
