"""`bridge check`: every mistake in the settings at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from shared.configuration import Configuration, Mistake
from shared.errors import Fatal
from shared.settings import CONFIG_VARIABLE, config_file, examine
from shared.topics import SERVICES


def check(
    file: Annotated[
        Path | None, typer.Argument(help=f"The settings; unless given, what {CONFIG_VARIABLE} names, or ./bridge.toml.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Check the settings: exit status 0 without mistakes, 1 with some, 2 where there is no such file."""
    path = file or config_file()
    if not path.is_file():
        typer.secho(f"there is no file {path}: name one, or write one with `bridge init`", err=True, fg="red")
        raise typer.Exit(2)
    configuration: Configuration | None = None
    mistakes: Sequence[Mistake]
    try:
        configuration, mistakes = examine(path)
    except Fatal as error:
        mistakes = [Mistake(str(path), "", str(error), "")]
    if as_json:
        report = {
            "file": str(path),
            "ok": not mistakes,
            "mistakes": [mistake._asdict() for mistake in mistakes],
            "pools": pools(configuration) if configuration else None,
        }
        typer.echo(json.dumps(report))
    else:
        _print(path, mistakes, configuration)
    if mistakes:
        raise typer.Exit(1)


def pools(c: Configuration) -> dict[str, Any]:
    """The arithmetic of connections: what every service takes at most, and what the server has."""
    sizes = {service: c.size_of(service) for service in SERVICES}
    return {
        "services": [
            {
                "service": service,
                "replicas": size.replicas,
                "connections": size.connections,
                "wanted": size.replicas * size.connections,
            }
            for service, size in sizes.items()
        ],
        "wanted": c.connections_wanted,
        "reserved": c.postgres.reserved_connections,
        "max_connections": c.postgres.max_connections,
    }


def _print(path: Path, mistakes: Sequence[Mistake], configuration: Configuration | None) -> None:
    for mistake in mistakes:
        typer.secho(f"✗ {mistake}", fg="red")
    if configuration is not None:
        sums = pools(configuration)
        table = Table("service", "replicas", "connections each", "together", title="Connections to PostgreSQL")
        for row in sums["services"]:
            table.add_row(*(str(row[name]) for name in ("service", "replicas", "connections", "wanted")))
        table.add_section()
        table.add_row("all", "", "", str(sums["wanted"]))
        table.add_row("reserved", "", "", str(sums["reserved"]))
        table.add_row("the server's limit", "", "", str(sums["max_connections"]))
        Console().print(table)
    if mistakes:
        typer.secho(f"{path} has {len(mistakes)} mistake(s)", fg="red")
    else:
        typer.secho(f"{path} has no mistakes", fg="green")
