"""A control room over an empty database, without Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.embedded.server import blocking
from services.control_room.__main__ import MIGRATIONS
from services.control_room.pages import Room
from shared.database import Database, create_database, migrate
from tests.kit.flow import FixedClock
from tests.kit.pages import empty, make_room, people_file


@pytest.fixture(scope="session")
def room_url(postgres_url: str, worker_tag: str) -> str:
    """One database for all of these tests, migrated once."""
    url = str(blocking(create_database(postgres_url, f"room_{worker_tag}")))
    blocking(migrate(url, "control_room", MIGRATIONS))
    return url


@pytest.fixture
async def database(room_url: str) -> AsyncIterator[Database]:
    """The control room's schema, empty."""
    async with await Database.connect(room_url, "control_room", application="test", connections=4) as database:
        await empty(database)
        yield database


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person of each role."""
    return people_file(tmp_path_factory.mktemp("people"))


@pytest.fixture
def clock() -> FixedClock:
    """Business time that the test moves."""
    return FixedClock()


@pytest.fixture
def room(database: Database, people: Path, clock: FixedClock) -> Room:
    """The pages, and the desk behind them."""
    return make_room(database, people, clock)
