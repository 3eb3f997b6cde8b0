"""`bridge local`: real Kafka and real PostgreSQL, just the two, for people who want to look around."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bridge.embedded import EmbeddedKafka, EmbeddedPostgres
from shared.errors import BridgeError


def local(
    data: Annotated[Path | None, typer.Option(help="Keep the data in this folder.", file_okay=False)] = None,
    kafka_port: Annotated[int | None, typer.Option(help="Any free one, unless given.")] = None,
    postgres_port: Annotated[int | None, typer.Option(help="Any free one, unless given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as one JSON line.")] = False,
) -> None:
    """Start Kafka and PostgreSQL, print their addresses, and run until Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    folder = data.absolute() if data else None
    try:
        with ThreadPoolExecutor(2) as pool:
            kafka_start = pool.submit(EmbeddedKafka.start, data=folder, port=kafka_port)
            postgres_start = pool.submit(EmbeddedPostgres.start, data=folder, port=postgres_port)
        # Both have ended by now; if only one stands, it must not outlive the other's failure.
        for start, other in ((kafka_start, postgres_start), (postgres_start, kafka_start)):
            if start.exception() and not other.exception():
                other.result().stop()
        kafka, postgres = kafka_start.result(), postgres_start.result()
    except BridgeError as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(1) from error
    with kafka, postgres:
        addresses = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "DATABASE_URL": postgres.url}
        if as_json:
            typer.echo(json.dumps(addresses))
        else:
            for name, value in addresses.items():
                typer.echo(f"export {name}={value}")
            kept = f"the data stays in {folder}" if folder else "the data goes with it"
            Console(stderr=True).print(f"Kafka and PostgreSQL run until Ctrl-C; {kept}.")
        stop.wait()
