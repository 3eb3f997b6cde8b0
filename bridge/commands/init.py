"""`bridge init`: a settings file with a comment on every key, to be filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shared.settings import CONFIG_VARIABLE, DEFAULT_FILE
from shared.settings_reference import template


def init(
    file: Annotated[Path, typer.Argument(help="Where to write it.", dir_okay=False)] = Path(DEFAULT_FILE),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the path as one JSON object.")] = False,
) -> None:
    """Write a settings file with every key, its meaning and an example; secrets stay outside of it."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(template())
    except FileExistsError as error:
        typer.secho(f"{file} is there already: name another file, or write over it with --force", err=True, fg="red")
        raise typer.Exit(1) from error
    except OSError as error:
        typer.secho(f"{file}: {error.strerror}", err=True, fg="red")
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps({"written": str(file)}))
    else:
        typer.echo(f"{file} is written: fill it in, set {CONFIG_VARIABLE}={file.absolute()}, and run `bridge check`")
