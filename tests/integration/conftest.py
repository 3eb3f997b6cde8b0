"""A fresh database per test, copied from one that was migrated once."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest
import structlog

from bridge.embedded.server import blocking
from shared import consumer, database
from shared.database import Database, create_database, migrate
from tests.kit.flow import TABLES
from tests.kit.world import SCHEMA, World

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def template(postgres_url: str, worker_tag: str) -> str:
    """The name of a migrated database to copy."""

    async def make() -> str:
        name = f"template_{worker_tag}"
        url = await create_database(postgres_url, name)
        await migrate(url, SCHEMA)
        async with await Database.connect(url, SCHEMA, application="template") as filled:
            await filled.execute(TABLES)
        return name

    return str(blocking(make()))


@pytest.fixture
async def world(postgres_url: str, template: str, worker_tag: str) -> AsyncIterator[World]:
    """A service's schema with nothing in it, and a Kafka with nothing on it."""
    name = f"world_{worker_tag}_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_url)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        url = postgres_url.rpartition("/")[0] + f"/{name}"
        async with await Database.connect(url, SCHEMA, application="world") as found:
            yield World(url, found)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """The default paints every traceback, for most of a second each."""
    structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.KeyValueRenderer()])


@pytest.fixture(autouse=True)
def no_time_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """In-place retries pause for moments; what the pauses are in production is no test's subject."""
    monkeypatch.setattr(consumer, "_IN_PLACE_PAUSES_SECONDS", (0.01, 0.02, 0.03))


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's time-outs at a fraction, in their order: for tests that wait for them."""
    monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.6)
    monkeypatch.setattr(database, "IDLE_TIMEOUT_SECONDS", 1.0)
