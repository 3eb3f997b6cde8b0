"""What people decide reaches every service once, in whatever order, with who, when, old and new."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, Struct

from shared import mappings, rules
from shared.codec import decode
from shared.events.control import MappingSet, RuleSet
from shared.handlers import Handlers
from shared.kafka import Partition, Record
from shared.mappings import CARRIERS, SKUS, Carrier, InvalidMapping, Product
from shared.outbox import republish
from shared.rules import InvalidRule, Rule
from tests.kit.flow import NOW
from tests.kit.world import MAPPINGS, World

RULES = tuple(Partition("rules", p) for p in range(3))


class Buffer(Struct, frozen=True, kw_only=True):
    """A rule of a test."""

    units: Annotated[int, Meta(ge=0)] = 0
    share: Decimal = Decimal("1")
    note: str | None = None


BUFFER = Rule("stock-buffer", Buffer)
DEFAULT = Buffer(units=9)


async def relay(world: World) -> None:
    """Send what waits in the outbox."""
    ours = world.relay(events=(MappingSet, RuleSet))
    await world.relay_all(ours)
    await ours.release()


async def published(world: World, topic: str) -> list[tuple[int, Any]]:
    """What the writer put on a topic, with its sequences."""
    await relay(world)
    found = []
    for record in world.kafka.everything(topic):
        headers = dict(record.headers)
        assert record.value is not None
        found.append((int(headers["ce_sequence"]), decode(headers["ce_type"].decode(), record.value)))
    return found


async def copy_into_reader(world: World, *names: str) -> None:
    """Forget the tables, as a service that has read nothing yet, and read the topics from their beginning."""
    await world.database.execute("TRUNCATE mapping_versions, rule_versions")
    reader = world.member(
        Handlers(*mappings.PROJECTORS, *rules.PROJECTORS), name="reference", partitions=(*MAPPINGS, *RULES)
    )
    await reader.to_end()


async def test_a_mapping_is_set_changed_and_removed_and_the_audit_says_who_when_old_and_new(world: World) -> None:
    async with world.outbox.transaction() as tx:
        await CARRIERS.set(tx, "worten-pt", "  DPD  uk", Carrier(right="DPD"), by="u-1")
    world.clock.at = NOW + timedelta(hours=1)
    async with world.outbox.transaction() as tx:
        to = Carrier(right="DPD-UK", tracking_url="https://dpd.example")
        await CARRIERS.set(tx, "worten-pt", "dpd UK ", to, by="u-2", reason="renamed")
    assert await CARRIERS.find(world.database, "worten-pt", "Dpd Uk") == to
    async with world.outbox.transaction() as tx:
        await CARRIERS.remove(tx, "worten-pt", "DPD UK", by="u-3")

    assert await CARRIERS.find(world.database, "worten-pt", "dpd uk") is None
    assert await CARRIERS.all(world.database, "worten-pt") == {}
    audit = await CARRIERS.history(world.database, "worten-pt", "dpd uk")
    assert [(v.version, v.old_right, v.right, v.by, v.at, v.reason) for v in audit] == [
        (1, None, "DPD", "u-1", NOW, None),
        (2, "DPD", "DPD-UK", "u-2", NOW + timedelta(hours=1), "renamed"),
        (3, "DPD-UK", None, "u-3", NOW + timedelta(hours=1), None),
    ]
    told = await published(world, "mappings")
    assert [(sequence, event.by, event.old_right) for sequence, event in told] == [
        (1, "u-1", None),
        (2, "u-2", "DPD"),
        (3, "u-3", "DPD-UK"),
    ]
    assert told[1][1].old_extras == {"registered": "true"}

    await copy_into_reader(world)
    assert await CARRIERS.history(world.database, "worten-pt", "dpd uk") == audit


async def test_a_service_reads_typed_values_of_its_marketplace_only(world: World) -> None:
    async with world.outbox.transaction() as tx:
        await SKUS.set(tx, "worten-pt", "SIX-PACK", Product(right="P1", pack_quantity=6), by="u-1")
        await SKUS.set(tx, "worten-pt", "single", Product(right="P1"), by="u-1")
        await SKUS.set(tx, "elsewhere", "SIX-PACK", Product(right="P2"), by="u-1")
    await published(world, "mappings")
    await copy_into_reader(world)

    found = await SKUS.find_all(world.database, "worten-pt", ["SIX-PACK", "single", "Single", "nothing"])
    assert found == {"SIX-PACK": Product(right="P1", pack_quantity=6), "single": Product(right="P1")}
    assert await CARRIERS.find(world.database, "worten-pt", "SIX-PACK") is None


async def test_the_newest_version_holds_whatever_the_order_of_arrival(world: World) -> None:
    for right in ("P1", "P2", "P3"):
        async with world.outbox.transaction() as tx:
            await SKUS.set(tx, "m", "A", Product(right=right), by="u-1")
    await published(world, "mappings")
    (log,) = (log for p, log in world.kafka.logs.items() if p in MAPPINGS)
    log[:] = [replace(record, offset=n) for n, record in enumerate(reversed(log))]
    await copy_into_reader(world)
    assert await SKUS.find(world.database, "m", "A") == Product(right="P3")
    assert [v.right for v in await SKUS.history(world.database, "m", "A")] == ["P1", "P2", "P3"]


async def test_two_people_at_once_get_two_versions_and_each_sees_what_was_there_before(world: World) -> None:
    async def set_to(right: str) -> None:
        async with world.outbox.transaction() as tx:
            await SKUS.set(tx, "m", "A", Product(right=right), by=f"u-{right}")

    await asyncio.gather(*(set_to(right) for right in "abcd"))
    history = await SKUS.history(world.database, "m", "A")
    assert [v.version for v in history] == [1, 2, 3, 4]
    assert [v.old_right for v in history[1:]] == [v.right for v in history[:-1]]


async def test_what_is_so_already_changes_nothing(world: World) -> None:
    async with world.outbox.transaction() as tx:
        assert await SKUS.remove(tx, "m", "A", by="u-1") is None
        assert await SKUS.set(tx, "m", "A", Product(right="P"), by="u-1") is not None
    async with world.outbox.transaction() as tx:
        assert await SKUS.set(tx, "m", "A", Product(right="P"), by="u-2") is None
        assert await BUFFER.remove(tx, "m", "*", by="u-1") is None
        assert await BUFFER.set(tx, "m", "*", Buffer(), by="u-1") is not None
    async with world.outbox.transaction() as tx:
        assert await BUFFER.set(tx, "m", "*", Buffer(), by="u-1") is None
    assert len(await published(world, "mappings")) == 1
    assert len(await published(world, "rules")) == 1


async def test_a_line_that_the_table_cannot_hold_is_refused_before_anything_is_written(world: World) -> None:
    for left, to in (("A", Product(right="P", pack_quantity=0)), ("", Product(right="P"))):
        with pytest.raises(InvalidMapping):
            async with world.outbox.transaction() as tx:
                await SKUS.set(tx, "m", left, to, by="u-1")
    with pytest.raises(InvalidRule, match="stock-buffer"):
        async with world.outbox.transaction() as tx:
            await BUFFER.set(tx, "m", "*", Buffer(units=-1), by="u-1")
    assert (
        await world.count("mapping_versions") == await world.count("rule_versions") == await world.count("outbox") == 0
    )


async def test_a_shop_s_own_rule_holds_before_the_one_for_all_and_that_before_the_settings(world: World) -> None:
    async def holds() -> Buffer:
        return await BUFFER.find(world.database, "m", "1", DEFAULT)

    async def change(change: Any, *values: Any, **more: Any) -> None:
        async with world.outbox.transaction() as tx:
            await change(tx, "m", *values, by="u-1", **more)

    assert await holds() == DEFAULT
    await change(BUFFER.set, "*", Buffer(units=2, share=Decimal("0.50")))
    assert await holds() == Buffer(units=2, share=Decimal("0.50"))
    await change(BUFFER.set, "1", Buffer(units=3, note="sale"), reason="sale")
    await published(world, "rules")
    await copy_into_reader(world)
    assert await holds() == Buffer(units=3, note="sale")
    assert await BUFFER.find(world.database, "m", "2", DEFAULT) == Buffer(units=2, share=Decimal("0.50"))
    await change(BUFFER.remove, "1")
    assert await holds() == Buffer(units=2, share=Decimal("0.50"))
    await change(BUFFER.remove, "*")
    assert await holds() == DEFAULT
    history = await BUFFER.history(world.database, "m", "1")
    assert [(v.version, v.by, v.reason) for v in history] == [(1, "u-1", "sale"), (2, "u-1", None)]
    assert history[1].old_settings == {"units": 3, "share": "1", "note": "sale"}
    assert history[1].settings is None


async def test_a_topic_that_was_lost_is_written_again_under_the_old_ids(world: World) -> None:
    async with world.outbox.transaction() as tx:
        await SKUS.set(tx, "m", "B", Product(right="P"), by="u-1")
        await SKUS.set(tx, "m", "A", Product(right="P"), by="u-1", reason="why")
        await BUFFER.set(tx, "m", "*", Buffer(units=1), by="u-1")
    async with world.outbox.transaction() as tx:
        await SKUS.remove(tx, "m", "A", by="u-2")
        await BUFFER.remove(tx, "m", "*", by="u-2")
    first = names(await all_records(world))
    world.kafka.logs.clear()
    assert [count async for count in republish(world.outbox, mappings.current)][-1] == 3
    assert [count async for count in republish(world.outbox, rules.current)][-1] == 2
    assert names(await all_records(world)) == first


async def all_records(world: World) -> Sequence[Record]:
    await relay(world)
    return [*world.kafka.everything("mappings"), *world.kafka.everything("rules")]


def names(records: Sequence[Record]) -> list[tuple[bytes, bytes, Any]]:
    found = []
    for record in records:
        headers = dict(record.headers)
        assert record.value is not None
        found.append((headers["ce_id"], headers["ce_time"], msgspec.json.decode(record.value)))
    return sorted(found, key=lambda item: item[0])
