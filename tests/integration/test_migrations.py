"""Migrations: one schema per service, run by many at once, harmless to repeat, old code beside new."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from shared.database import Database, migrate
from shared.errors import Fatal
from tests.kit.world import World

ONE = """
import asyncio, sys
from shared.database import migrate
asyncio.run(migrate(sys.argv[1], sys.argv[2]))
"""

OWN = '''"""One table of its own."""
from shared.database import apply_sql_beside

revision, down_revision, branch_labels, depends_on = "{revision}", {down}, None, None


def upgrade() -> None:
    apply_sql_beside(__file__)
'''


def own_migrations(folder: Path, *scripts: str) -> Path:
    """A service's folder with one revision per script."""
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "env.py").touch()
    for n, sql in enumerate(scripts, 1):
        down = f'"{n - 1:04d}"' if n > 1 else None
        (folder / "versions" / f"{n:04d}_own.py").write_text(OWN.format(revision=f"{n:04d}", down=down))
        (folder / "versions" / f"{n:04d}_own.sql").write_text(sql)
    return folder


async def tables(url: str, schema: str) -> set[str]:
    async with await Database.connect(url, schema, application="test") as database:
        found = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", schema)
    return {row["tablename"] for row in found}


async def test_many_processes_migrate_at_once_and_each_ends_well(database_url: str) -> None:
    schemas = ["acceptor", "acceptor", "acceptor", "order_ingestor", "order_ingestor", "finance_ledger"]
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", ONE, database_url, schema, stderr=subprocess.PIPE)
        for schema in schemas
    ]
    answers = await asyncio.gather(*(child.communicate() for child in children))
    assert [child.returncode for child in children] == [0] * 6, answers
    mechanism = await tables(database_url, "acceptor")
    assert {"consumer_positions", "inbox", "outbox", "parked_keys", "dead_letters"} <= mechanism
    assert mechanism == await tables(database_url, "finance_ledger")
    assert "clock" in await tables(database_url, "bridge")


async def test_a_repetition_changes_nothing(world: World) -> None:
    await world.database.execute("UPDATE bridge.clock SET speed = 7")
    await world.database.execute("INSERT INTO counters VALUES ('A', 1, 1)")
    for _ in range(2):
        await migrate(world.url, "flow")
    assert await world.database.fetchval("SELECT speed FROM bridge.clock") == 7
    assert await world.count("counters") == 1


async def test_a_service_adds_its_own_tables_beside_the_mechanism(world: World, tmp_path: Path) -> None:
    folder = own_migrations(tmp_path, "CREATE TABLE answers (id text PRIMARY KEY); INSERT INTO answers VALUES ('1');")
    await migrate(world.url, "flow", folder)
    await migrate(world.url, "flow", folder)
    assert await world.count("answers") == 1


async def test_a_revision_that_fails_leaves_nothing_of_itself_behind(world: World, tmp_path: Path) -> None:
    broken = own_migrations(tmp_path / "a", "CREATE TABLE one (id int);", "CREATE TABLE two (id int); SELECT 1/0;")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(world.url, "flow", broken)
    assert {"one", "two"} & await tables(world.url, "flow") == {"one"}
    mended = own_migrations(tmp_path / "b", "CREATE TABLE one (id int);", "CREATE TABLE two (id int);")
    await migrate(world.url, "flow", mended)
    assert {"one", "two"} <= await tables(world.url, "flow")


async def test_old_code_works_on_while_new_code_expands_its_schema(world: World, tmp_path: Path) -> None:
    world.say("A", 1, 2)
    old = world.member()
    await old.to_end()
    folder = own_migrations(tmp_path, "ALTER TABLE counters ADD COLUMN note text NOT NULL DEFAULT '';")
    await migrate(world.url, "flow", folder)
    world.say("A", 3)
    await old.to_end()
    assert await world.applied() == {"A": [1, 2, 3]}


async def test_a_schema_that_is_none_is_refused_before_anything_happens(database_url: str) -> None:
    with pytest.raises(Fatal, match="use lower-case letters"):
        await migrate(database_url, "order-ingestor")
