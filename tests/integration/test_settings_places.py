"""What the settings say of PostgreSQL reaches the driver."""

from __future__ import annotations

from contextlib import suppress

import asyncpg
import pytest

from shared.database import Database, Disconnected, migrate
from shared.settings import from_environment


async def test_sslmode_holds_for_the_pool_and_for_migrations(database_url: str) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "a:1", "DATABASE_URL": f"{database_url}?sslmode=disable"}
    url = from_environment(environment).database_url
    await migrate(url, "somebody")
    async with await Database.connect(url, "somebody", application="test") as database:
        assert await database.fetchval("SELECT count(*) FROM mapping_versions") == 0
        assert await database.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is False
    # The embedded server speaks no TLS: who insists on it gets no connection.
    environment["DATABASE_URL"] = f"{database_url}?sslmode=require"
    with pytest.raises(Disconnected):
        await Database.connect(from_environment(environment).database_url, "somebody", application="test")


async def test_every_new_connection_asks_for_the_password_as_it_is_now(database_url: str) -> None:
    asked = 0

    def password() -> str:
        nonlocal asked
        asked += 1
        return "whatever"

    async with await Database.connect(
        database_url, "public", application="rotating", connections=1, password=password
    ) as database:
        assert await database.fetchval("SELECT 1") == 1
        before = asked
        other = await asyncpg.connect(database_url)
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rotating'"
        )
        await other.close()
        with suppress(Disconnected):  # unless the pool has noticed by itself
            await database.fetchval("SELECT 1")
        assert await database.fetchval("SELECT 1") == 1
    assert asked > before >= 1
