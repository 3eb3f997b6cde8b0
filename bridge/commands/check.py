"""`bridge check`: every mistake in the settings at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bridge.commands.online import UNNAMED, Finding, look
from bridge.commands.places import Json, run
from bridge.fleet import environment_with
from shared.configuration import Configuration, Mistake, key_of
from shared.errors import Fatal
from shared.settings import CONFIG_VARIABLE, SERVERS, VARIABLES, config_file, examine, load, unnamed_servers
from shared.topics import CONTROL_ROOM, SERVICES

_SIGNS = {"right": ("✓", "green"), "wrong": ("✗", "red"), "unknown": ("?", "yellow")}


def check(
    file: Annotated[
        Path | None, typer.Argument(help=f"The settings; unless given, what {CONFIG_VARIABLE} names, or ./bridge.toml.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask Kafka, PostgreSQL, SFCC and every shop too; reads only.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the settings: exit status 0 without mistakes, 1 with some, 2 where there is no such file."""
    path = file or config_file()
    if not path.is_file():
        what = "is no file" if path.exists() else "is not there"
        typer.secho(f"{path} {what}: name another, or write one with `bridge init`", err=True, fg="red")
        raise typer.Exit(2)
    configuration: Configuration | None = None
    mistakes: Sequence[Mistake]
    unnamed: Sequence[str] = ()
    environment = environment_with()
    try:
        unnamed = unnamed_servers(path)
        environment |= {name: SERVERS[name] for name in unnamed}
        configuration, mistakes = examine(path, environment)
    except Fatal as error:
        mistakes = [Mistake(str(path), "", str(error).removeprefix(f"{path} "), "")]
    if not as_json:
        _print(mistakes, unnamed, configuration)
    findings = run(_ask(path, environment, unnamed, as_json)) if online and not mistakes else []
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        report = {
            "file": str(path),
            "ok": not mistakes and not wrong,
            "mistakes": [mistake._asdict() for mistake in mistakes],
            "unnamed": list(unnamed),
            "pools": pools(configuration) if configuration else None,
            "online": [finding._asdict() for finding in findings] if online else None,
        }
        typer.echo(json.dumps(report))
    elif mistakes:
        later = "; put it right before the other side is asked" if online else ""
        typer.secho(f"{path} has {len(mistakes)} mistake(s){later}", fg="red")
    elif wrong:
        typer.secho(f"{path} has no mistakes, but {wrong} thing(s) out there are wrong", fg="red")
    else:
        typer.secho(f"{path} has no mistakes", fg="green")
    if mistakes or wrong:
        raise typer.Exit(1)


async def _ask(path: Path, environment: Mapping[str, str], unnamed: Sequence[str], as_json: bool) -> list[Finding]:
    findings = []
    with Console(stderr=True).status("asking") as status:
        async for finding in look(load(CONTROL_ROOM, environment, file=path), unnamed):
            findings.append(finding)
            status.update(f"asking: {len(findings)} answers, last {finding.about}")
            if not as_json:
                sign, colour = _SIGNS[finding.state]
                typer.secho(f"{sign} {finding.about}: {finding.detail}", fg=colour)
    return findings


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


def _print(mistakes: Sequence[Mistake], unnamed: Sequence[str], configuration: Configuration | None) -> None:
    for mistake in mistakes:
        typer.secho(f"✗ {mistake}", fg="red")
    for name in unnamed:
        typer.secho(f"? {key_of(*VARIABLES[name])}: is not named ({UNNAMED})", fg="yellow")
    if configuration is None:
        return
    sums = pools(configuration)
    table = Table("service", "replicas", "connections each", "together", title="Connections to PostgreSQL")
    for row in sums["services"]:
        table.add_row(*(str(row[name]) for name in ("service", "replicas", "connections", "wanted")))
    table.add_section()
    table.add_row("all", "", "", str(sums["wanted"]))
    table.add_row("reserved", "", "", str(sums["reserved"]))
    table.add_row("the server's limit", "", "", str(sums["max_connections"]))
    Console().print(table)
