"""What all tests stand on: real Kafka and real PostgreSQL, started once per run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from bridge.embedded.addresses import addresses
from bridge.embedded.server import blocking
from shared.database import create_database
from tests.kit.topics import empty_topics

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of long tests come first; workers take files in this order."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[str, str]]:
    """Kafka's bootstrap servers and PostgreSQL's URL: environment, else Docker, else embedded."""
    with addresses() as found:
        yield found


@pytest.fixture(scope="session")
def kafka_bootstrap(servers: tuple[str, str]) -> str:
    """Where Kafka is."""
    return servers[0]


@pytest.fixture(scope="session")
def postgres_url(servers: tuple[str, str]) -> str:
    """Where PostgreSQL is."""
    return servers[1]


@pytest.fixture
def database_url(postgres_url: str, worker_tag: str) -> str:
    """A fresh, empty database for one test."""
    return str(blocking(create_database(postgres_url, f"test_{worker_tag}_{next(_numbers)}")))


@pytest.fixture(scope="session")
def worker_tag() -> str:
    """Tells this run from others on the same servers."""
    import uuid

    return uuid.uuid4().hex[:10]


@pytest.fixture(autouse=True)
def without_what_others_said(request: pytest.FixtureRequest) -> None:
    """Whole services read their topics from the beginning, and some tests jump days ahead: each finds them empty.

    Nothing is deleted on a broker that was given: it may hold more than tests.
    """
    whole = {"services", "scenarios"} & set(request.path.parts)
    if whole and "kafka_bootstrap" in request.fixturenames and not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        blocking(empty_topics(request.getfixturevalue("kafka_bootstrap")))
