"""A stopped process keeps its locks; here is who frees them, at every point it may stop at."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from shared.database import Conflict, Database, Disconnected, Locked, patiently
from shared.errors import Fatal
from tests.kit.world import SCHEMA, World, eventually

LOCK = "UPDATE counters SET version = version + 1 WHERE key = 'A'"

pytestmark = pytest.mark.usefixtures("short_timeouts")


@pytest.fixture
async def fresh(world: World, short_timeouts: None) -> AsyncIterator[Database]:
    """A pool that was opened under the short time-outs, and a row to fight for."""
    await world.database.execute("INSERT INTO counters VALUES ('A', 0, 0)")
    async with await Database.connect(world.url, SCHEMA, application="fresh") as database:
        yield database


@asynccontextmanager
async def stopped_process(world: World, where: str) -> AsyncIterator[Any]:
    """A process that locked the row and stopped, as PostgreSQL sees it.

    `idle`: between two statements. `after parse`: it has sent Parse, and neither Bind nor Sync will come.
    `result unread`: it has sent a query whose answer it never takes off its socket.
    """
    # Settings as our pools have them: it is one of ours that stopped.
    settings = {"search_path": SCHEMA, "idle_in_transaction_session_timeout": "1000ms", "application_name": "stopped"}
    connection = await asyncpg.connect(world.url, server_settings=settings)
    transport = connection._transport
    await connection.execute("BEGIN")
    await connection.execute(LOCK)
    if where == "after parse":
        body = b"\0SELECT 1\0" + struct.pack("!H", 0)
        transport.write(b"P" + struct.pack("!I", len(body) + 4) + body)
        body = b""
        transport.write(b"H" + struct.pack("!I", 4))
        await eventually(lambda: state_of(world, "active"))
    elif where == "result unread":
        transport.pause_reading()
        body = b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)\0"
        transport.write(b"Q" + struct.pack("!I", len(body) + 4) + body)
        await eventually(lambda: state_of(world, "active"))
    try:
        yield connection
    finally:
        transport.abort()


async def state_of(world: World, state: str) -> bool:
    return bool(
        await world.database.fetchval(
            "SELECT true FROM pg_stat_activity WHERE application_name = 'stopped' AND state = $1", state
        )
    )


async def take(database: Database, end_blockers: bool) -> int:
    async with database.transaction(end_blockers=end_blockers) as rows:
        return int(await rows.fetchval(LOCK + " RETURNING version"))


async def test_a_process_stopped_inside_its_transaction_loses_its_lock_by_the_idle_timeout(
    world: World, fresh: Database
) -> None:
    async with stopped_process(world, "idle"):
        # Nobody ends it: the time-out alone frees the row.
        assert await patiently(lambda end_blockers: take(fresh, False)) == 1
        assert not await state_of(world, "idle in transaction")


@pytest.mark.parametrize("where", ["after parse", "result unread"])
async def test_a_process_stopped_in_the_middle_of_a_statement_is_ended_by_the_next_taker(
    world: World, fresh: Database, where: str
) -> None:
    async with stopped_process(world, where):
        assert await patiently(lambda end_blockers: take(fresh, end_blockers)) == 1
        assert not await state_of(world, "active")


@pytest.mark.parametrize("where", ["after parse", "result unread"])
async def test_no_timeout_would_ever_end_such_a_process(world: World, fresh: Database, where: str) -> None:
    async with stopped_process(world, where):
        for _ in range(3):
            with pytest.raises(Locked, match="a lock was not to be had"):
                await take(fresh, False)
        assert await state_of(world, "active")


async def test_the_first_attempt_at_a_lock_ends_nobody(world: World, fresh: Database) -> None:
    asked: list[bool] = []

    async def attempt(end_blockers: bool) -> int:
        asked.append(end_blockers)
        return await take(fresh, end_blockers)

    async with stopped_process(world, "after parse"):
        await patiently(attempt)
    assert asked == [False, True]


async def test_our_own_transaction_is_told_when_the_server_ended_it_for_idling(fresh: Database) -> None:
    with pytest.raises(Disconnected):
        await idle_too_long(fresh)
    assert await take(fresh, False) == 1, "and the pool has a sound connection again"


async def idle_too_long(database: Database) -> None:
    async with database.transaction() as rows:
        await rows.execute(LOCK)
        await asyncio.sleep(1.3)  # longer than the server's patience of one second
        await rows.execute(LOCK)


async def test_a_deadlock_is_a_conflict_that_is_run_again(world: World, fresh: Database) -> None:
    await world.database.execute("INSERT INTO counters VALUES ('B', 0, 0)")
    await world.database.execute("ALTER DATABASE " + world.url.rpartition("/")[2] + " SET deadlock_timeout = '20ms'")
    async with await Database.connect(world.url, SCHEMA, application="deadlock") as database:
        both = asyncio.Barrier(2)
        first_time = {"A": True, "B": True}

        async def crosswise(first: str, second: str, end_blockers: bool) -> None:
            async with database.transaction(end_blockers=end_blockers) as rows:
                await rows.execute("UPDATE counters SET version = version + 1 WHERE key = $1", first)
                if first_time[first]:
                    first_time[first] = False
                    await both.wait()
                await rows.execute("UPDATE counters SET version = version + 1 WHERE key = $1", second)

        await asyncio.gather(
            patiently(lambda end: crosswise("A", "B", end)), patiently(lambda end: crosswise("B", "A", end))
        )
        assert await database.fetchval("SELECT sum(version) FROM counters") == 4


async def test_patience_has_an_end() -> None:
    async def never(end_blockers: bool) -> None:
        raise Conflict("SerializationError")

    with pytest.raises(Conflict):
        await patiently(never, attempts=3, pause_seconds=0)


async def test_a_lost_connection_is_not_repeated_blindly(fresh: Database) -> None:
    attempts = 0

    async def lose(end_blockers: bool) -> None:
        nonlocal attempts
        attempts += 1
        async with fresh.transaction() as rows:
            await rows.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Disconnected):
        await patiently(lose)
    assert attempts == 1, "its commit may have got through: the caller looks first"


async def test_every_session_is_bounded_below_kafkas_session_timeout(world: World, monkeypatch: Any) -> None:
    monkeypatch.undo()
    from shared import database
    from shared.kafka import SESSION_TIMEOUT_SECONDS

    async with await Database.connect(world.url, SCHEMA, application="settings") as connected:
        for name, seconds in (
            ("lock_timeout", database.LOCK_TIMEOUT_SECONDS),
            ("idle_in_transaction_session_timeout", database.IDLE_TIMEOUT_SECONDS),
        ):
            assert seconds < SESSION_TIMEOUT_SECONDS
            assert await connected.fetchval("SELECT current_setting($1)", name) == f"{seconds:g}s"


async def test_a_schema_that_is_none_is_refused_by_name(world: World) -> None:
    with pytest.raises(Fatal, match="schema 'Flow\"; DROP': use lower-case letters"):
        await Database.connect(world.url, 'Flow"; DROP', application="x")
