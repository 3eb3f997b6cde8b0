"""What people type: help, JSON, exit statuses, and what each command does to a real database and a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.__main__ import app
from bridge.embedded.server import blocking
from shared.database import Database, create_database, migrate
from shared.dead_letters import DeadLetter, bury
from shared.events.dead_letters import RecordDeadLettered
from shared.kafka import Address, Partition, cluster_id, edge_offsets, ensure_topics
from shared.mappings import SKUS, Product
from shared.outbox import Outbox
from shared.parking import Parking, StoredRecord, park
from shared.topics import CONTROL_ROOM, INGESTOR, topic, topic_of
from tests.kit.flow import FixedClock

LEVELS = "stock-levels"
PERSONAL = b'{"name": "Jane Doe"}'


@dataclass
class Town:
    """A database with two services in it, and the commands' view of it."""

    url: str
    kafka: Address
    ends: dict[int, int]

    def bridge(self, *arguments: str, status: int = 0, **environment: str) -> Result:
        """Type a command; its exit status is checked."""
        places = {"DATABASE_URL": self.url, "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}
        result = CliRunner(env={**places, "COLUMNS": "300", "TERMINAL_WIDTH": "300", **environment}).invoke(
            app, arguments
        )
        assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    def said(self, *arguments: str) -> Any:
        """What a command says as JSON."""
        return json.loads(self.bridge(*arguments, "--json").stdout)

    def rows(self, service: str, sql: str, *values: object) -> list[dict[str, Any]]:
        """What a query finds in a service's schema."""

        async def ask() -> list[dict[str, Any]]:
            schema = service.replace("-", "_")
            async with await Database.connect(self.url, schema, application="test", connections=1) as database:
                return [dict(row) for row in await database.fetch(sql, *values)]

        found: list[dict[str, Any]] = blocking(ask())
        return found


@pytest.fixture(scope="module")
def town(kafka_bootstrap: str, postgres_url: str, worker_tag: str) -> Town:
    """Two services: the ingestor stopped, with a dead letter and a waiting key; the control room mapped a SKU."""
    kafka = Address(kafka_bootstrap)

    async def build() -> Town:
        url = await create_database(postgres_url, f"town_{worker_tag}")
        for service in (INGESTOR, CONTROL_ROOM):
            await migrate(url, service.replace("-", "_"))
        await ensure_topics(kafka, [topic(LEVELS)])
        partitions = [Partition(LEVELS, 0), Partition(LEVELS, 1)]
        _, ends = await edge_offsets(kafka, partitions)
        async with await Database.connect(url, "order_ingestor", application="test") as database:
            async with Outbox(database, INGESTOR, FixedClock()).transaction() as tx:
                for p in partitions:
                    await tx.execute(
                        """INSERT INTO consumer_positions
                               (consumer, topic, partition, cluster_id, epoch, next_offset, holder)
                           VALUES ('reader', $1, $2, 'another-cluster', 1, 0, 'h')""",
                        *p,
                    )
                record = StoredRecord(LEVELS, 0, 7, b"A", PERSONAL, (), 1)
                await bury(tx, "reader", [DeadLetter(record, "invalid-value", "$.ats", "no number", "x.y.v1", "id-1")])
                waiting = StoredRecord(LEVELS, 1, 8, b"B/\xc3\xa9", PERSONAL, (), 1)
                await park(tx, "reader", [Parking(waiting, "unexpected", "KeyError", 3_600.0)])
                await tx.execute(
                    "INSERT INTO consumer_stops (consumer, topic, reason) VALUES ('reader', $1, 'many')", LEVELS
                )
        async with await Database.connect(url, "control_room", application="test") as database:
            async with Outbox(database, CONTROL_ROOM, FixedClock()).transaction() as tx:
                await SKUS.set(tx, "m", "A", Product(right="P"), by="u-1")
            await database.execute("DELETE FROM outbox")
        return Town(url, kafka, {p.partition: ends[p] for p in partitions})

    built: Town = blocking(build())
    return built


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command there is."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=" ".join(p) or "bridge") for p in commands(typer.main.get_command(app))]
)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert len(result.stdout.strip().splitlines()) > 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("offsets", "set", "reader", LEVELS),
        ("offsets", "set", "reader", LEVELS, "--to", "yesterday"),
        ("republish", "orders"),
        ("republish", "no-such-topic"),
        ("republish", "mappings", "--service", "order-ingestor"),
        ("dead-letters", "list", "--last", "0"),
        ("check", "/nowhere/bridge.toml"),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(town: Town, arguments: tuple[str, ...]) -> None:
    assert town.bridge(*arguments, status=2).stderr


def test_completion_can_be_installed() -> None:
    result = CliRunner().invoke(app, ["--show-completion", "bash"])
    assert result.exit_code == 0
    assert "_BRIDGE_COMPLETE" in result.stdout or "complete" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [("offsets", "show"), ("dead-letters", "list"), ("dead-letters", "waiting"), ("republish", "mappings")],
)
def test_without_a_database_a_command_says_so_in_one_line_with_status_1(town: Town, arguments: tuple[str, ...]) -> None:
    result = town.bridge(*arguments, status=1, DATABASE_URL="postgresql://nobody:pw-secret@127.0.0.1:1/x")
    assert "PostgreSQL" in result.stderr
    assert "Traceback" not in result.stderr
    assert "pw-secret" not in result.output
    nowhere = town.bridge(*arguments, status=1, DATABASE_URL="")
    assert "DATABASE_URL: is missing; e.g. DATABASE_URL=postgresql://" in nowhere.stderr


@pytest.mark.parametrize("command", [("offsets", "show"), ("dead-letters", "list"), ("dead-letters", "waiting")])
def test_a_service_that_is_not_there_is_named_with_those_that_are(town: Town, command: tuple[str, ...]) -> None:
    result = town.bridge(*command, "order-ingester", status=1)
    assert "there is no service order-ingester" in result.stderr
    assert "control-room, order-ingestor" in result.stderr


def test_offsets_are_shown_and_set_under_a_new_epoch_for_the_cluster_that_is_there(town: Town) -> None:
    before = town.said("offsets", "show", INGESTOR)
    assert [(r["consumer"], r["topic"], r["partition"], r["next_offset"], r["epoch"]) for r in before] == [
        ("reader", LEVELS, 0, 0, 1),
        ("reader", LEVELS, 1, 0, 1),
    ]
    assert "reader" in town.bridge("offsets", "show").stdout
    assert town.said("offsets", "show", CONTROL_ROOM) == []

    set_one = town.said("offsets", "set", "reader", LEVELS, "--to", "end", "--partition", "1")
    assert set_one["service"] == INGESTOR
    assert set(set_one["offsets"]) == {"1"}
    after = town.said("offsets", "show")
    assert [r["epoch"] for r in after] == [1, 2]
    assert after[1]["next_offset"] == set_one["offsets"]["1"] >= town.ends[1]
    assert after[1]["lag"] == after[1]["end"] - after[1]["next_offset"]

    spoken = town.bridge("offsets", "set", "reader", LEVELS, "--to", "beginning", "--service", INGESTOR).stdout
    assert spoken.splitlines()[0].startswith("reader stock-levels/0 reads on from ")
    rows = town.rows(INGESTOR, "SELECT epoch, cluster_id FROM consumer_positions ORDER BY partition")
    assert [row["epoch"] for row in rows] == [2, 3]
    assert {row["cluster_id"] for row in rows} == {blocking(cluster_id(town.kafka))}


def test_offsets_go_nowhere_where_nothing_is(town: Town) -> None:
    beyond = town.bridge("offsets", "set", "reader", LEVELS, "--to", "999999999", status=1)
    assert "not 999999999" in beyond.stderr
    stranger = town.bridge("offsets", "set", "stranger", LEVELS, "--to", "end", status=1)
    assert "no service has a consumer stranger" in stranger.stderr
    elsewhere = town.bridge("offsets", "set", "reader", "orders", "--to", "end", status=1)
    assert "has no consumer reader on orders: see `bridge offsets show order-ingestor`" in elsewhere.stderr


def test_dead_letters_are_listed_with_their_reason_and_without_their_bytes(town: Town) -> None:
    (letter,) = town.said("dead-letters", "list")
    assert (letter["service"], letter["consumer"], letter["topic"], letter["partition"], letter["offset"]) == (
        INGESTOR,
        "reader",
        LEVELS,
        0,
        7,
    )
    assert (letter["rule"], letter["field"], letter["reason"]) == ("invalid-value", "$.ats", "no number")
    table = town.bridge("dead-letters", "list", INGESTOR, "--last", "5").stdout
    assert "no number" in table
    assert "Jane" not in table


def test_a_waiting_key_is_listed_and_released(town: Town) -> None:
    (waiting,) = town.said("dead-letters", "waiting")
    assert (waiting["key"], waiting["records"], waiting["rule"]) == ("B/é", 1, "unexpected")
    table = town.bridge("dead-letters", "waiting", INGESTOR).stdout
    assert "KeyError" in table
    assert "Jane" not in table
    assert town.said("dead-letters", "release", "reader", LEVELS, "B/é")["service"] == INGESTOR
    assert town.rows(INGESTOR, "SELECT retry_at <= clock_timestamp() AS now FROM parked_keys") == [{"now": True}]
    missing = town.bridge("dead-letters", "release", "reader", LEVELS, "C", status=1)
    assert "see `bridge dead-letters waiting order-ingestor`" in missing.stderr


def test_a_stop_is_lifted_once_and_it_is_kept_who_did(town: Town) -> None:
    assert town.said("dead-letters", "lift", "reader", "--by", "jo") == {
        "service": INGESTOR,
        "consumer": "reader",
        "lifted": 1,
        "by": "jo",
    }
    assert town.rows(INGESTOR, "SELECT lifted_by FROM consumer_stops") == [{"lifted_by": "jo"}]
    assert "nothing to lift" in town.bridge("dead-letters", "lift", "reader", status=1).stderr


def test_a_topic_is_republished_by_those_who_write_it_and_nobody_else(town: Town) -> None:
    letters = topic_of(RecordDeadLettered).name
    assert town.said("republish", letters)["written"] == {CONTROL_ROOM: 0, INGESTOR: 1}
    assert town.said("republish", letters, "--service", INGESTOR)["written"] == {INGESTOR: 1}
    assert town.said("republish", "mappings") == {"topic": "mappings", "written": {CONTROL_ROOM: 1}}
    assert "control-room: 0 events of rules" in town.bridge("republish", "rules").stdout
    (row,) = town.rows(CONTROL_ROOM, "SELECT topic, key FROM outbox")
    assert (row["topic"], row["key"]) == ("mappings", "m/sku/A")


def test_local_starts_both_servers_says_where_they_are_and_ends_on_a_signal() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "local", "--json"], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert process.stdout is not None
        places = json.loads(process.stdout.readline())
        assert blocking(cluster_id(Address(places["KAFKA_BOOTSTRAP_SERVERS"])))

        async def one() -> Any:
            async with await Database.connect(places["DATABASE_URL"], "public", application="test") as database:
                return await database.fetchval("SELECT 1")

        assert blocking(one()) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
