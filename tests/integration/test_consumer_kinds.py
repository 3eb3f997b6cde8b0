"""Projectors and reactors are different types: a projector cannot publish, whoever calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.database import Rows
from shared.events.control import MappingSet
from shared.events.stock import StockLevelReported
from shared.handlers import Handlers, Projector, Received, project, project_batch, react
from shared.outbox import Transaction
from tests.kit.flow import count_and_forward, write_down
from tests.kit.world import World

SNIPPET = """
from shared.database import Rows
from shared.events.control import MappingSet
from shared.handlers import Received, project, react
from shared.outbox import Transaction

async def only_rows(received: Received[MappingSet], rows: Rows) -> None:
    await rows.execute("SELECT 1")

async def publishes(received: Received[MappingSet], tx: Transaction) -> None:
    tx.publish(received.event, sequence=1)

fine = project(MappingSet, only_rows), react(MappingSet, publishes), react(MappingSet, only_rows)
wrong = project(MappingSet, publishes)
"""


async def test_a_projector_is_given_rows_without_the_means_to_publish(world: World) -> None:
    given: list[Rows] = []

    async def look(received: Received[StockLevelReported], rows: Rows) -> None:
        given.append(rows)
        await rows.execute("INSERT INTO counters VALUES ($1, 1, 1)", received.event.product_id)

    world.say("A", 1)
    await world.member(Handlers(project(StockLevelReported, look))).to_end()
    (rows,) = given
    assert not isinstance(rows, Transaction)
    assert not hasattr(rows, "publish")
    assert await world.count("counters") == 1


def test_the_type_checker_refuses_a_projector_that_publishes(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--follow-imports=silent",
         "--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache"), str(snippet)],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    (error,) = done.stdout.splitlines()
    assert ":14: error:" in error, done.stdout
    assert "Transaction" in error


def test_only_projectors_are_offered_to_a_replay() -> None:
    async def fold(events: object, rows: Rows) -> None:
        return None

    projector = project_batch(MappingSet, fold)
    handlers = Handlers(projector, react(StockLevelReported, count_and_forward))
    assert list(handlers.projectors()) == [projector]
    assert isinstance(projector, Projector)


def test_an_event_type_has_one_handler_per_consumer() -> None:
    with pytest.raises(ValueError, match=r"two handlers for mapping\.set\.v1"):
        Handlers(react(MappingSet, write_down), react(MappingSet, write_down))


def test_the_guard_follows_from_how_long_the_topic_is_kept() -> None:
    handlers = Handlers(react(MappingSet, write_down), react(StockLevelReported, count_and_forward))
    assert handlers.routes["mapping.set.v1"].guard == "sequence"
    assert handlers.routes["stock-level.reported.v1"].guard == "inbox"
