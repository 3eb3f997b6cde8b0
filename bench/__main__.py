"""`make bench ARGS="SUITE --json"`: what it costs, beside what a user would write instead.

Suites: `path`, `obligations`, `orders`, `stock`, `sandbox`. Kafka and PostgreSQL come from the environment, from Docker
or embedded, like in tests (`sandbox` needs neither); the last line printed is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.orders import SPEED
from bench.path import preload
from bridge.embedded.addresses import addresses
from shared.database import Database, create_database

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Console(stderr=True)
_COUNTED = ("made", "doubled", "lost", "not_accepted")


@app.callback()
def suites() -> None:
    """What it costs, by suite."""


@app.command()
def path(
    events: Annotated[int, typer.Option(help="Stock events per run.", min=10_000)] = 200_000,
    runs: Annotated[int, typer.Option(help="Runs of each kind, taking turns.", min=3)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON line.")] = False,
) -> None:
    """Consume, guarded upsert, outbox, offsets, relay: ours beside bare aiokafka and asyncpg."""
    with addresses() as (bootstrap, server_url):
        console.print(f"putting {events:,} events on the topic")
        asyncio.run(preload(bootstrap, events))
        kinds = ("full", "bare", "bare-as-written")
        found: dict[str, list[dict[str, Any]]] = {which: [] for which in kinds}
        for turn in track(range(runs * len(kinds)), description="measuring", console=console):
            which = kinds[turn % len(kinds)]
            found[which].append(_run(which, bootstrap, server_url, events))
        settings = asyncio.run(_settings(server_url))
    rates = {which: [run["per_second"] for run in results] for which, results in found.items()}
    middle = {which: statistics.median(values) for which, values in rates.items()}
    result = {
        "full_path_per_second": round(middle["full"]),
        "bare_path_per_second": round(middle["bare"]),
        "ratio": round(middle["full"] / middle["bare"], 3),
        "bare_as_written_per_second": round(middle["bare-as-written"]),
        "ratio_to_bare_as_written": round(middle["full"] / middle["bare-as-written"], 3),
        "rss_mb": round(max(run["rss_mb"] for run in found["full"])),
        "full_path_min": round(min(rates["full"])),
        "full_path_max": round(max(rates["full"])),
        "bare_path_min": round(min(rates["bare"])),
        "bare_path_max": round(max(rates["bare"])),
        "events": events,
        "runs": runs,
    } | settings
    if not as_json:
        table = Table("", "median/s", "min/s", "max/s", title="full path")
        for which, values in rates.items():
            table.add_row(which, *(f"{f(values):,.0f}" for f in (statistics.median, min, max)))
        console.print(table)
    print(json.dumps(result))


@app.command()
def obligations(
    count: Annotated[int, typer.Option(help="Obligations completed per run.", min=1_000)] = 10_000,
    waiting: Annotated[int, typer.Option(help="Others that wait meanwhile.", min=0)] = 100_000,
    runs: Annotated[int, typer.Option(help="Runs of each kind.", min=1)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON line.")] = False,
) -> None:
    """Note, call, note: completed per second and process, with nothing else and with many that wait."""
    with addresses() as (_, server_url):
        found: dict[int, list[dict[str, Any]]] = {0: [], waiting: []}
        for turn in track(range(runs * 2), description="measuring", console=console):
            many = (0, waiting)[turn % 2]
            url = asyncio.run(create_database(server_url, f"bench_{time.time_ns()}"))
            found[many].append(_in_a_process("obligations", [url, str(count), str(many)]))
        settings = asyncio.run(_settings(server_url))
    rates = {many: statistics.median(run["per_second"] for run in results) for many, results in found.items()}
    every = [run for results in found.values() for run in results]
    result = {
        "per_second": round(rates[0]),
        "per_second_with_waiting": round(rates[waiting]),
        "waiting": waiting,
        "due_order_violations": sum(run["due_order_violations"] for run in every),
        "rss_mb": max(run["rss_mb"] for run in every),
        "completed_per_run": count,
        "runs": runs,
    } | {name: settings[name] for name in ("fsync", "synchronous_commit", "server_version", "python")}
    if not as_json:
        table = Table("waiting", "median/s", title="obligations")
        for many, rate in rates.items():
            table.add_row(f"{many:,}", f"{rate:,.0f}")
        console.print(table)
    print(json.dumps(result))


@app.command()
def orders(
    count: Annotated[int, typer.Option(help="Orders at once, per run and kind.", min=100)] = 1_500,
    rate: Annotated[int, typer.Option(help="Orders per second that arrive evenly.", min=1)] = 50,
    seconds: Annotated[int, typer.Option(help="For how long they do.", min=5, max=120)] = 20,
    runs: Annotated[int, typer.Option(help="Runs.", min=1)] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON line.")] = False,
) -> None:
    """From OR11's page to the order created in SFCC with the acceptor at work, per second and process."""
    with addresses() as (bootstrap, server_url):
        found = []
        for _ in track(range(runs), description="measuring", console=console):
            url = asyncio.run(create_database(server_url, f"bench_{time.time_ns()}"))
            found.append(_in_a_process("orders", [bootstrap, url, str(count), str(rate), str(seconds)]))
        settings = asyncio.run(_settings(server_url))
    rates = [run["per_second"] for run in found]
    result = (
        {"per_second": statistics.median(rates), "per_second_min": min(rates), "per_second_max": max(rates)}
        | {name: statistics.median(run[name] for run in found) for name in found[0] if name not in _COUNTED}
        | {name: sum(run[name] for run in found) for name in _COUNTED}
        | {"at_once": count, "arriving_per_second": rate, "reading_every_seconds": 60 / SPEED, "runs": runs}
        | {name: settings[name] for name in ("fsync", "synchronous_commit", "server_version", "python")}
    )
    if not as_json:
        table = Table("", "median/s", "min/s", "max/s", title="orders")
        table.add_row("OR11 to SFCC", *(f"{f(rates):,.1f}" for f in (statistics.median, min, max)))
        console.print(table)
    print(json.dumps(result))


@app.command()
def stock(
    events: Annotated[int, typer.Option(help="Stock events, each of a product of its own.", min=100)] = 3_000,
    seconds: Annotated[int, typer.Option(help="Over how long they arrive.", min=60, max=400)] = 180,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON line.")] = False,
) -> None:
    """From a stock event to the STO01 that carries it, in five shops with one slot a minute each."""
    with addresses() as (bootstrap, server_url):
        console.print(f"measuring for some {seconds + 60} seconds")
        url = asyncio.run(create_database(server_url, f"bench_{time.time_ns()}"))
        result = _in_a_process("stock", [bootstrap, url, str(events), str(seconds)])
        settings = asyncio.run(_settings(server_url))
    result |= {name: settings[name] for name in ("fsync", "synchronous_commit", "server_version", "python")}
    if not as_json:
        table = Table("", "p50 s", "p99 s", "max s", title="stock")
        table.add_row(
            "event to STO01", *(f"{result[f'event_to_submitted_{name}_seconds']}" for name in ("p50", "p99", "max"))
        )
        console.print(table)
    print(json.dumps(result))


@app.command()
def sandbox(
    orders: Annotated[int, typer.Option(help="Orders in each sandbox.", min=10, max=100_000)] = 5_000,
    offers: Annotated[int, typer.Option(help="Offers in each of Mirakl's five shops.", min=100, max=100_000)] = 2_000,
    calls: Annotated[int, typer.Option(help="Calls of each kind.", min=100)] = 4_000,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON line.")] = False,
) -> None:
    """Simple calls per second to the sandboxes, and the memory that their orders and offers take."""
    result = _in_a_process("sandbox", [str(orders), str(offers), str(calls)])
    if not as_json:
        table = Table("", "per second", "per second of processor", title="sandboxes")
        for name, found in result.items():
            for kind in (kind for kind, value in found.items() if isinstance(value, dict)):
                table.add_row(f"{name} {kind}", *(f"{value:,}" for value in found[kind].values()))
        console.print(table)
    print(json.dumps(result))


def _run(which: str, bootstrap: str, server_url: str, events: int) -> dict[str, Any]:
    """One run in a process of its own, on a database of its own."""
    url = asyncio.run(create_database(server_url, f"bench_{time.time_ns()}"))
    return _in_a_process("path", [which, bootstrap, url, str(events)])


def _in_a_process(suite: str, arguments: list[str]) -> dict[str, Any]:
    """What a suite's own module prints last."""
    command = [sys.executable, "-m", f"bench.{suite}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"bench.{suite} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


async def _settings(server_url: str) -> dict[str, Any]:
    """What decides the figures."""
    async with await Database.connect(server_url, "public", application="bench", connections=1) as database:
        names = ("fsync", "synchronous_commit", "server_version")
        found = {name: await database.fetchval(f"SHOW {name}") for name in names}
    return found | {"acks": "all", "traced_orders": 1.0, "traced_stock": 0.01, "python": sys.version.split()[0]}


if __name__ == "__main__":
    app()
