"""`bridge dead-letters list|waiting|lift|release`: what no retry could save, and what waits because of it."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from bridge.commands.places import Json, Service, run, say, schema_of, schemas_with, service_of, show
from shared import dead_letters, parking
from shared.errors import Fatal
from shared.settings import from_environment

app = typer.Typer(help="Records that no retry can save, and keys that wait.", no_args_is_help=True)


@app.command("list")
def list_dead_letters(
    service: Annotated[str | None, typer.Argument(help="A service; all unless given.")] = None,
    last: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """List dead letters with reason and origin; their bytes may hold personal data and are not shown."""
    run(_list(service, last, as_json))


async def _list(service: str | None, last: int, as_json: bool) -> None:
    rows = []
    for name in [service] if service else await schemas_with(from_environment().database_url, "dead_letters"):
        async with schema_of(name) as database:
            found = await database.fetch(
                """SELECT consumer, topic, partition, "offset", event_type, rule, field, reason, buried_at
                   FROM dead_letters ORDER BY buried_at DESC LIMIT $1""",
                last,
            )
            rows += [dict(row) | {"service": name} for row in found]
    rows.sort(key=lambda row: row["buried_at"], reverse=True)
    columns = (
        "service",
        "consumer",
        "topic",
        "partition",
        "offset",
        "event_type",
        "rule",
        "field",
        "reason",
        "buried_at",
    )
    show("Dead letters", rows[:last], columns, as_json)


@app.command("waiting")
def list_waiting(
    service: Annotated[str | None, typer.Argument(help="A service; all unless given.")] = None, as_json: Json = False
) -> None:
    """List the keys that wait, with the reason and the time of their next attempt."""
    run(_waiting(service, as_json))


async def _waiting(service: str | None, as_json: bool) -> None:
    rows = []
    for name in [service] if service else await schemas_with(from_environment().database_url, "parked_keys"):
        async with schema_of(name) as database:
            found = await database.fetch(
                """SELECT k.consumer, k.topic, k.partition, k.key, k.rule, k.reason, k.attempts, k.since,
                          nullif(k.retry_at, 'infinity') AS retry_at, count(r."offset") AS records
                   FROM parked_keys AS k LEFT JOIN parked_records AS r USING (consumer, topic, partition, key)
                   GROUP BY k.consumer, k.topic, k.partition, k.key ORDER BY k.since"""
            )
            rows += [dict(row) | {"service": name} for row in found]
    columns = ("service", "consumer", "topic", "key", "records", "rule", "reason", "attempts", "since", "retry_at")
    show("Keys that wait", rows, columns, as_json)


@app.command("lift")
def lift(
    consumer: Annotated[str, typer.Argument(help="The consumer that was stopped.")],
    service: Service = None,
    by: Annotated[str | None, typer.Option(help="Who lifts it; you, unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Let a consumer that was stopped for too many dead letters start again."""
    try:
        by = by or getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("this user has no name here: say who lifts it", param_hint="--by") from error
    run(_lift(consumer, service, by, as_json))


async def _lift(consumer: str, service: str | None, by: str, as_json: bool) -> None:
    owner = await service_of(consumer, "consumer_positions", service)
    async with schema_of(owner) as database:
        async with database.transaction() as rows:
            lifted = await dead_letters.lift_stop(rows, consumer, by)
    if not lifted:
        raise Fatal(f"no stop stands for {consumer} of {owner}: nothing to lift")
    facts = {"service": owner, "consumer": consumer, "lifted": lifted, "by": by}
    say(f"{consumer} may go on: {lifted} stop(s) lifted by {by}; start it again", facts, as_json)


@app.command("release")
def release(
    consumer: Annotated[str, typer.Argument(help="The consumer whose key waits.")],
    topic: Annotated[str, typer.Argument(help="The topic.")],
    key: Annotated[str, typer.Argument(help="The key, as `bridge dead-letters waiting` shows it.")],
    service: Service = None,
    as_json: Json = False,
) -> None:
    """Try a waiting key again now; records queued behind it follow in their order."""
    run(_release(consumer, topic, key, service, as_json))


async def _release(consumer: str, topic: str, key: str, service: str | None, as_json: bool) -> None:
    owner = await service_of(consumer, "consumer_positions", service)
    async with schema_of(owner) as database:
        if not await parking.release(database, consumer, topic, key.encode()):
            raise Fatal(f"no key {key!r} of {topic} waits at {consumer}: see `bridge dead-letters waiting {owner}`")
    facts = {"service": owner, "consumer": consumer, "topic": topic, "key": key}
    say(f"{topic} {key} is tried again", facts, as_json)
