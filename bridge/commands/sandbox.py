"""`bridge sandbox`: an open Mirakl or an open SFCC to run against.

The sandboxes are imported where they are served: no other command should wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from aiohttp import web

app = typer.Typer(help="Open stand-ins for Mirakl and SFCC; see docs/sandbox.md.", no_args_is_help=True)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")]
Seed = Annotated[int, typer.Option(help="The same seed makes the same sandbox.")]
Config = Annotated[Path | None, typer.Option(help="Configuration file; without one, the built-in world.")]


@app.command()
def mirakl(host: Host = "127.0.0.1", port: Port = 8081, seed: Seed = 0, config: Config = None) -> None:
    """Serve the Mirakl seller API of several marketplaces until Ctrl-C."""
    from sandbox.mirakl.app import build
    from sandbox.mirakl.config import load_config

    _serve("mirakl", lambda: build(load_config(config), seed), host, port)


@app.command()
def sfcc(host: Host = "127.0.0.1", port: Port = 8082, seed: Seed = 0, config: Config = None) -> None:
    """Serve an SFCC instance until Ctrl-C."""
    from sandbox.sfcc.app import build
    from sandbox.sfcc.config import load_config

    _serve("sfcc", lambda: build(load_config(config), seed), host, port)


def _serve(name: str, built: Callable[[], web.Application], host: str, port: int) -> None:
    from sandbox.common.running import run

    try:
        run(built(), name, host, port)
    except (ValueError, OSError) as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(2) from error
