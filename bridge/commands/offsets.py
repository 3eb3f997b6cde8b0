"""`bridge offsets show|set`: where each consumer stands, and putting it elsewhere on purpose."""

from __future__ import annotations

from typing import Annotated

import typer

from bridge.commands.places import Json, Service, run, say, schema_of, schemas_with, service_of, show
from shared.errors import Fatal
from shared.kafka import Partition, cluster_id, edge_offsets
from shared.positions import place
from shared.settings import from_environment

app = typer.Typer(help="Where each consumer stands in its topics.", no_args_is_help=True)


@app.command("show")
def show_offsets(
    service: Annotated[str | None, typer.Argument(help="A service, e.g. order-ingestor; all unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Show each partition's next offset, the end of the topic, the epoch and its holder."""
    run(_show(service, as_json))


async def _show(service: str | None, as_json: bool) -> None:
    settings = from_environment()
    services = [service] if service else await schemas_with(settings.database_url, "consumer_positions")
    rows = []
    for name in services:
        async with schema_of(name) as database:
            for row in await database.fetch("SELECT * FROM consumer_positions ORDER BY consumer, topic, partition"):
                rows.append(dict(row) | {"service": name})
    partitions = sorted({Partition(row["topic"], row["partition"]) for row in rows})
    _, ends = await edge_offsets(settings.kafka, partitions) if partitions else ({}, {})
    for row in rows:
        end = ends.get(Partition(row["topic"], row["partition"]))
        row["end"] = end
        row["lag"] = None if end is None else max(0, end - row["next_offset"])
    columns = (
        "service",
        "consumer",
        "topic",
        "partition",
        "next_offset",
        "end",
        "lag",
        "epoch",
        "holder",
        "updated_at",
    )
    show("Offsets", rows, columns, as_json)


@app.command("set")
def set_offsets(
    consumer: Annotated[str, typer.Argument(help="The consumer, as `bridge offsets show` names it.")],
    topic: Annotated[str, typer.Argument(help="The topic.")],
    to: Annotated[str, typer.Option("--to", help="beginning, end, or an offset.")],
    partition: Annotated[int | None, typer.Option(help="One partition; all unless given.")] = None,
    service: Service = None,
    as_json: Json = False,
) -> None:
    """Put a consumer elsewhere, and note the cluster that is there now as its own.

    Whoever runs is fenced and reads on from the new place. Going back repeats records, which every
    consumer drops as duplicates; going forward leaves records out for good.
    """
    if to not in ("beginning", "end") and not to.isdecimal():
        raise typer.BadParameter(f"{to!r}: write beginning, end or an offset, e.g. --to 42", param_hint="--to")
    run(_set(consumer, topic, to, partition, service, as_json))


async def _set(consumer: str, topic: str, to: str, partition: int | None, service: str | None, as_json: bool) -> None:
    settings = from_environment()
    owner = await service_of(consumer, "consumer_positions", service)
    async with schema_of(owner) as database:
        known = await database.fetch(
            """SELECT topic, partition FROM consumer_positions
               WHERE consumer = $1 AND topic = $2 AND ($3::int IS NULL OR partition = $3) ORDER BY partition""",
            consumer,
            topic,
            partition,
        )
        partitions = [Partition(row["topic"], row["partition"]) for row in known]
        if not partitions:
            where = topic if partition is None else f"{topic}/{partition}"
            raise Fatal(f"{owner} has no consumer {consumer} on {where}: see `bridge offsets show {owner}`")
        beginnings, ends = await edge_offsets(settings.kafka, partitions)
        if gone := [p for p in partitions if p not in ends]:
            raise Fatal(f"{gone[0].topic} is not on Kafka at {settings.kafka.bootstrap_servers}: nowhere to go on from")
        wanted = {p: beginnings[p] if to == "beginning" else ends[p] if to == "end" else int(to) for p in partitions}
        for p, offset in wanted.items():
            if not beginnings[p] <= offset <= ends[p]:
                raise Fatal(f"{p.topic}/{p.partition} has offsets {beginnings[p]} to {ends[p]}, not {offset}")
        async with database.transaction(end_blockers=True) as rows:
            await place(rows, consumer, await cluster_id(settings.kafka), wanted)
    lines = [f"{consumer} {p.topic}/{p.partition} reads on from {offset}" for p, offset in wanted.items()]
    facts = {
        "service": owner,
        "consumer": consumer,
        "topic": topic,
        "offsets": {p.partition: o for p, o in wanted.items()},
    }
    say("\n".join(lines), facts, as_json)
