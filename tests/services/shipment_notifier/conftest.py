"""A fresh, migrated database per test, with both remote systems beside it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.embedded.server import blocking
from shared.database import create_database
from tests.services.shipment_notifier.kit import Room, room

_numbers = itertools.count(1)


@pytest.fixture
def database_url(postgres_url: str, worker_tag: str) -> str:
    return str(blocking(create_database(postgres_url, f"shipments_{worker_tag}_{next(_numbers)}")))


@pytest.fixture
async def here(kafka_bootstrap: str, database_url: str, tmp_path: Path) -> AsyncIterator[Room]:
    async with room(kafka_bootstrap, database_url, tmp_path) as made:
        yield made
