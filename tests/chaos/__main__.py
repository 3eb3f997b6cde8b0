"""`make chaos ARGS="--kills N --seed S --json"`: hit a small service at random, and count in applied state.

Exit status 0 only when nothing was lost, doubled or out of order, and nothing is left waiting.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos.harness import Hit, Outcome, run

console = Console(stderr=True)


def chaos(
    kills: Annotated[int, typer.Option(help="How many hits.", min=20)] = 20,
    seed: Annotated[int, typer.Option(help="The same seed hits the same in the same order.")] = 1,
    replicas: Annotated[int, typer.Option(help="Processes of the service.", min=2)] = 2,
    keys: Annotated[int, typer.Option(help="Keys that facts are made for.", min=50)] = 60,
    per_second: Annotated[float, typer.Option(help="Facts offered on average.", min=500)] = 550.0,
    logs: Annotated[Path | None, typer.Option(help="Keep the replicas' logs in this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Only the JSON line.")] = False,
) -> None:
    """Hit a small service of the mechanism at random moments."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        folder = logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        outcome = asyncio.run(_watched(kills, seed, folder, replicas, keys, per_second, as_json))
    print(json.dumps(outcome.as_json()))
    raise typer.Exit(0 if outcome.clean else 1)


async def _watched(
    kills: int, seed: int, folder: Path, replicas: int, keys: int, per_second: float, quiet: bool
) -> Outcome:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        hits = progress.add_task("starting", total=kills)

        def tell(hit: Hit) -> None:
            progress.update(hits, advance=1, description=f"{hit.kind} of {hit.replica}")
            if not quiet:
                flight = "in flight" if hit.in_flight else "idle"
                progress.console.print(
                    f"{hit.number:4} {hit.kind:9} {hit.replica} {flight:9} {hit.recover_seconds:5.1f} s"
                )

        return await run(kills, seed, folder, replicas=replicas, keys=keys, per_second=per_second, tell=tell)


if __name__ == "__main__":
    typer.run(chaos)
