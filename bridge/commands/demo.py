"""`bridge demo`: a day of trade on this machine, with nothing real but the code."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bridge.commands.places import run
from bridge.embedded.places import free_port

if TYPE_CHECKING:
    from bridge.demo.tally import Tally

console = Console(stderr=True)


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="End by itself after the day, and say in figures how it was.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed is another day.")] = 1,
    kills: Annotated[int, typer.Option(help="Kill each service so often at random moments.", min=0, max=20)] = 0,
    port: Annotated[int | None, typer.Option(help="Of the control room; any free one, unless given.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keep settings and logs here.", file_okay=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
) -> None:
    """Start everything, trade for a day at sixty times the speed, and keep the control room open."""
    with tempfile.TemporaryDirectory(prefix="bridge-demo-") as scratch:
        place = (folder or Path(scratch)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        tally = run(_demo(place, seed, kills, port or free_port(), once))
    mistakes = tally.mistakes()
    if as_json:
        print(json.dumps(tally.as_json()))
    for line in (*mistakes, *tally.details) if mistakes else ():
        console.print(line, style="red" if line in mistakes else "dim", markup=False)
    raise typer.Exit(1 if mistakes else 0)


async def _demo(folder: Path, seed: int, kills: int, port: int, once: bool) -> Tally:
    # The sandboxes are imported where they are played with: no other command should wait for them.
    from bridge.demo.day import Day, furnish
    from bridge.demo.plan import plan
    from bridge.demo.stage import staged
    from bridge.demo.world import OPERATOR, PASSWORD

    began = monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{monotonic() - began:6.1f} s[/]  {text}")

    tell("Kafka, PostgreSQL, an open Mirakl, an open SFCC and seven services start.")
    async with staged(folder, seed, port, lambda mirakl: furnish(mirakl, seed)) as stage:
        tell(f"Control room: {stage.room_url} (sign in as {OPERATOR}, password {PASSWORD})")
        tally = await Day(stage, seed, plan(seed, kills), tell).play()
        tell("The day is over.")
        if not once:
            console.print(f"The control room stays open at {stage.room_url} until Ctrl-C.")
            await stage.fleet.wait(asyncio.Event())
        return tally
