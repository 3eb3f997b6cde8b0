"""A fresh database per test, copied from one that was migrated once."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from bridge.embedded.server import blocking
from services.order_ingestor.__main__ import MIGRATIONS
from shared.database import create_database, migrate
from tests.services.order_ingestor.kit import Ground, Hands, ground, hands

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ingestor_template(postgres_url: str, worker_tag: str) -> str:
    """The name of a migrated database to copy."""

    async def make() -> str:
        name = f"ingestor_{worker_tag}"
        await migrate(await create_database(postgres_url, name), "order_ingestor", MIGRATIONS)
        return name

    return str(blocking(make()))


@pytest.fixture
def database_url(postgres_url: str, ingestor_template: str, worker_tag: str) -> str:
    name = f"orders_{worker_tag}_{next(_numbers)}"

    async def copy() -> None:
        admin = await asyncpg.connect(postgres_url)
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {ingestor_template}")
        await admin.close()

    blocking(copy())
    return postgres_url.rpartition("/")[0] + f"/{name}"


@pytest.fixture
async def here(database_url: str, tmp_path: Path) -> AsyncIterator[Ground]:
    """Both sandboxes, without Kafka."""
    async with ground("127.0.0.1:1", database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def by_hand(here: Ground) -> AsyncIterator[Hands]:
    async with hands(here) as made:
        yield made
