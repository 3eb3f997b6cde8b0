"""`bridge sandbox`: an open Mirakl or an open SFCC to run against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from aiohttp import web

import sandbox.mirakl.app as mirakl_app
import sandbox.mirakl.config as mirakl_config
import sandbox.sfcc.app as sfcc_app
import sandbox.sfcc.config as sfcc_config
from sandbox.common.running import run

app = typer.Typer(help="Open stand-ins for Mirakl and SFCC; see docs/sandbox.md.", no_args_is_help=True)

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")]
Seed = Annotated[int, typer.Option(help="The same seed makes the same sandbox.")]
Config = Annotated[Path | None, typer.Option(help="Configuration file; without one, the built-in world.")]


@app.command()
def mirakl(host: Host = "127.0.0.1", port: Port = 8081, seed: Seed = 0, config: Config = None) -> None:
    """Serve the Mirakl seller API of several marketplaces until Ctrl-C."""
    _serve("mirakl", lambda: mirakl_app.build(mirakl_config.load_config(config), seed), host, port)


@app.command()
def sfcc(host: Host = "127.0.0.1", port: Port = 8082, seed: Seed = 0, config: Config = None) -> None:
    """Serve an SFCC instance until Ctrl-C."""
    _serve("sfcc", lambda: sfcc_app.build(sfcc_config.load_config(config), seed), host, port)


def _serve(name: str, built: Callable[[], web.Application], host: str, port: int) -> None:
    try:
        run(built(), name, host, port)
    except (ValueError, OSError) as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(2) from error
