"""Mappings that people set, as every service reads them: typed, current, and with their history.

A service projects the topic `mappings` into its own schema (`PROJECTORS` belong to its reference
consumer) and asks a `MappingTable`. Each event is one version of one line; the newest holds, whatever the
order of arrival, and all are kept. Who reacts to a change (what waited goes on) calls `keep` first: its
own consumer may be ahead of the reference consumer.

Only the control room writes: `MappingTable.set` and `remove` note who, when, old and new in one event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from shared.database import Database, Rows
from shared.errors import Permanent
from shared.events.base import Event
from shared.events.control import MappingRemoved, MappingSet
from shared.events.fields import Pack
from shared.handlers import Received, project_batch
from shared.outbox import Transaction

_encode = msgspec.json.encode


class Mapped(Struct, frozen=True, kw_only=True):
    """What a value is mapped to. A table's own type adds what its lines hold in `extras`."""

    right: str


M = TypeVar("M", bound=Mapped)


class InvalidMapping(Permanent):
    """A mapping that its table cannot hold."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one line, for a person who asks who changed what."""

    version: int
    right: str | None
    """None: mapped to nothing from then on."""
    extras: Mapping[str, str]
    old_right: str | None
    old_extras: Mapping[str, str]
    by: str
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class MappingTable(Generic[M]):
    """One kind of mapping: what its lines are mapped to, and how a value is written to be found."""

    kind: str
    holds: type[M]
    normalise: Callable[[str], str] = str

    async def find(self, rows: Rows | Database, marketplace: str, left: str) -> M | None:
        """What a value is mapped to, if it is."""
        return (await self.find_all(rows, marketplace, [left])).get(left)

    async def find_all(self, rows: Rows | Database, marketplace: str, lefts: Iterable[str]) -> dict[str, M]:
        """What those of the values are mapped to that are, by the values as given."""
        names = {left: self.normalise(left) for left in lefts}
        found = await rows.fetch(
            """SELECT DISTINCT ON ("left") "left", "right", extras FROM mapping_versions
               WHERE marketplace = $1 AND kind = $2 AND "left" = ANY($3) ORDER BY "left", version DESC""",
            marketplace,
            self.kind,
            sorted(set(names.values())),
        )
        mapped = {row["left"]: self._typed(row) for row in found if row["right"] is not None}
        return {left: mapped[name] for left, name in names.items() if name in mapped}

    async def all(self, rows: Rows | Database, marketplace: str) -> dict[str, M]:
        """Every mapped value of a marketplace, normalised, and what it is mapped to."""
        found = await rows.fetch(
            """SELECT DISTINCT ON ("left") "left", "right", extras FROM mapping_versions
               WHERE marketplace = $1 AND kind = $2 ORDER BY "left", version DESC""",
            marketplace,
            self.kind,
        )
        return {row["left"]: self._typed(row) for row in found if row["right"] is not None}

    async def history(self, rows: Rows | Database, marketplace: str, left: str) -> Sequence[Version]:
        """Every version of a line, the oldest first."""
        found = await rows.fetch(
            """SELECT version, "right", extras, old_right, old_extras, by, at, reason FROM mapping_versions
               WHERE marketplace = $1 AND kind = $2 AND "left" = $3 ORDER BY version""",
            marketplace,
            self.kind,
            self.normalise(left),
        )
        return [
            Version(**dict(row) | {name: msgspec.json.decode(row[name]) for name in ("extras", "old_extras")})
            for row in found
        ]

    async def set(
        self, tx: Transaction, marketplace: str, left: str, to: M, *, by: str, reason: str | None = None
    ) -> MappingSet | None:
        """Map a value from now on, and publish that; None where it is mapped so already.

        Raises:
            InvalidMapping: the value is empty, or `to` is not what the table holds.
        """
        name = self.normalise(left)
        settings = msgspec.to_builtins(to)
        right = settings.pop("right")
        extras = {key: _text(value) for key, value in settings.items() if value is not None}
        try:
            msgspec.convert({"right": right, **extras}, self.holds, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidMapping(f"{self.kind} {left!r}: {error}", rule="invalid-mapping", field="right") from error
        if not name:
            raise InvalidMapping(f"an empty {self.kind} cannot be mapped", rule="invalid-mapping", field="left")
        last = await self._lock(tx, marketplace, name)
        if last is not None and (last.right, last.extras) == (right, extras):
            return None
        event = MappingSet(
            marketplace=marketplace,
            kind=self.kind,
            left=name,
            by=by,
            at=tx.time,
            reason=reason,
            right=right,
            extras=extras,
            old_right=last.right if last else None,
            old_extras=dict(last.extras) if last else {},
        )
        await _write(tx, event, last)
        return event

    async def remove(
        self, tx: Transaction, marketplace: str, left: str, *, by: str, reason: str | None = None
    ) -> MappingRemoved | None:
        """Map a value to nothing from now on, and publish that; None where it is mapped to nothing already."""
        last = await self._lock(tx, marketplace, self.normalise(left))
        if last is None or last.right is None:
            return None
        event = MappingRemoved(
            marketplace=marketplace,
            kind=self.kind,
            left=self.normalise(left),
            by=by,
            at=tx.time,
            reason=reason,
            old_right=last.right,
            old_extras=dict(last.extras),
        )
        await _write(tx, event, last)
        return event

    async def _lock(self, tx: Transaction, marketplace: str, name: str) -> Version | None:
        """The newest version, with the line locked until the transaction ends: also one that is not there yet."""
        await tx.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"mappings/{marketplace}/{self.kind}/{name}"
        )
        versions = await self.history(tx, marketplace, name)
        return versions[-1] if versions else None

    def _typed(self, row: Mapping[str, Any]) -> M:
        # What is stored was checked when it was set, by this type or an older one.
        return msgspec.convert({"right": row["right"], **msgspec.json.decode(row["extras"])}, self.holds, strict=False)


async def _write(tx: Transaction, event: MappingSet | MappingRemoved, last: Version | None) -> None:
    version = last.version + 1 if last else 1
    await _insert(tx, [(event, version)])
    tx.publish(event, sequence=version)


async def keep(events: Sequence[Received[Any]], rows: Rows) -> None:
    """Note versions of lines; harmless to repeat, in any order."""
    await _insert(rows, [(received.event, received.envelope.sequence) for received in events])


async def _insert(rows: Rows, versions: Sequence[tuple[MappingSet | MappingRemoved, int]]) -> None:
    # Sorted, so that two consumers of one service that keep the same lines queue up rather than deadlock.
    ordered = sorted(versions, key=lambda pair: (pair[0].key, pair[1]))
    lines = [
        (
            event.marketplace,
            event.kind,
            event.left,
            version,
            event.right if isinstance(event, MappingSet) else None,
            _encode(event.extras if isinstance(event, MappingSet) else {}).decode(),
            event.old_right,
            _encode(event.old_extras).decode(),
            event.by,
            event.at,
            event.reason,
        )
        for event, version in ordered
    ]
    await rows.execute(
        """INSERT INTO mapping_versions
           SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::jsonb[],
                                $7::text[], $8::jsonb[], $9::text[], $10::timestamptz[], $11::text[])
           ON CONFLICT DO NOTHING""",
        *zip(*lines, strict=True),
    )


PROJECTORS: Final = (project_batch(MappingSet, keep, "state"), project_batch(MappingRemoved, keep, "state"))
"""For a service's reference consumer."""


async def current(rows: Rows) -> AsyncIterator[tuple[Event, int, datetime]]:
    """Every version as the event that made it, the oldest of each line first, for a topic that was lost."""
    for row in await rows.fetch('SELECT * FROM mapping_versions ORDER BY marketplace, kind, "left", version'):
        values = dict(row) | {name: msgspec.json.decode(row[name]) for name in ("extras", "old_extras")}
        version, right, extras = values.pop("version"), values.pop("right"), values.pop("extras")
        if right is None:
            yield MappingRemoved(**values), version, row["at"]
        else:
            yield MappingSet(**values, right=right, extras=extras), version, row["at"]


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# The tables that several services read --------------------------------------------------------------


def spoken(name: str) -> str:
    """A name as people write it, so that `dpd  uk ` is found as `DPD UK`."""
    return " ".join(name.split()).casefold()


class Product(Mapped, frozen=True, kw_only=True):
    """`right` is the SFCC product id that a marketplace's shop SKU sells."""

    pack_quantity: Pack = 1


class Carrier(Mapped, frozen=True, kw_only=True):
    """`right` is a carrier code of the marketplace's own list (SH21), or the name of one that is not on it."""

    registered: bool = True
    tracking_url: Annotated[str | None, Meta(description="Only for a carrier that is not on the list.")] = None


SKUS: Final = MappingTable("sku", Product)
"""Shop SKU to SFCC product, where an offer's own mapping is not what people want."""
CARRIERS: Final = MappingTable("carrier", Carrier, spoken)
"""The warehouse's word for a carrier to the marketplace's."""
