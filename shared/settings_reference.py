"""Writes docs/settings.md and the file of `bridge init` from the types of the settings.

python -m shared.settings_reference            writes docs/settings.md
python -m shared.settings_reference --check    says whether it is up to date
"""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec
from msgspec import NODEFAULT, Struct

from shared.configuration import CollectorUrl, Configuration, HttpUrl, PostgresUrl, Server, key_of
from shared.secrets import Secret
from shared.settings import VARIABLES
from shared.toml_reader import bare, description_of, example_of, hints_of, literal, metas_of

REFERENCE: Final = Path(__file__).parent.parent / "docs" / "settings.md"

_WORDS: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    date: "date",
    datetime: "date and time with zone",
    ZoneInfo: "time zone",
    Secret: "reference to a secret",
    HttpUrl: "URL",
    CollectorUrl: "URL",
    PostgresUrl: "PostgreSQL URL",
    Server: "host:port",
}

_BOUNDS: Final = (("≥", "ge"), (">", "gt"), ("≤", "le"), ("<", "lt"))
_UNBOUNDED: Final = 1_000_000_000
"""A limit that only keeps nonsense out is not worth a word."""

_HEAD: Final = """# Settings

<!-- Written by `make schemas` from shared/configuration.py: edit there. -->

All settings stand in one TOML file; `BRIDGE_CONFIG` names it, `bridge.toml` in the working directory unless it
does. `bridge init` writes one with comments, `bridge check` names every mistake in it at once.

A secret never stands in the file. In its place stands a reference: `env:NAME` is a variable of the environment,
`file:/path` a file. The content is read at every use, so a rotated secret needs no restart: rename the new file
over the old one, and take the old secret back only when calls with it have ended.

"""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table."""

    name: str
    kind: str
    default: str | None
    """As TOML writes it; empty: none; None: the key is required."""
    description: str
    example: str
    starter: bool
    """Whether a new file holds it: what is required, and what nobody gets far without."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file, with the names of its readers' choice in capitals."""

    path: tuple[str, ...]
    example_path: tuple[str, ...]
    about: str
    optional: bool
    keys: tuple[Key, ...]


def tables(
    struct: type[Struct] = Configuration,
    path: tuple[str, ...] = (),
    example_path: tuple[str, ...] = (),
    optional: bool = False,
) -> Iterator[Table]:
    """Every table of the file, in the order of the types."""
    keys, inner = [], []
    for field in msgspec.structs.fields(struct):
        hint = hints_of(struct)[field.name]
        kind = bare(hint)
        has_default = field.default is not NODEFAULT or field.default_factory is not NODEFAULT
        if isinstance(kind, type) and issubclass(kind, Struct):
            inner.append((kind, (*path, field.name), (*example_path, field.name), has_default))
        elif get_origin(kind) is dict and _is_struct(get_args(kind)[1]):
            called = next(meta.extra["called"] for meta in metas_of(hint) if meta.extra)
            place, example = (*path, field.name, called), (*example_path, field.name, example_of(hint))
            inner.append((bare(get_args(kind)[1]), place, example, has_default))
        else:
            default = field.default if field.default_factory is NODEFAULT else field.default_factory()
            shown = None if not has_default else "" if default in (None, {}, ()) else literal(default)
            said = [meta.extra["starter"] for meta in metas_of(hint) if meta.extra and "starter" in meta.extra]
            starter = said[-1] if said else not has_default
            keys.append(Key(field.name, _words(hint), shown, description_of(hint), literal(example_of(hint)), starter))
    if keys:
        yield Table(path, example_path, _first_paragraph(struct), optional, tuple(keys))
    for kind, place, example, has_default in inner:
        yield from tables(kind, place, example, optional or has_default)


def reference() -> str:
    """docs/settings.md."""
    variables = {key_of(*place): name for name, place in VARIABLES.items()}
    parts = [_HEAD]
    for table in tables():
        title = f"[{'.'.join(table.path)}]" if table.path else "At the top of the file"
        parts.append(f"## {title}\n\n" + (f"{table.about}\n\n" if table.path else ""))
        parts.append("| Key | What | Default | Meaning | Example |\n|---|---|---|---|---|\n")
        for key in table.keys:
            default = "required" if key.default is None else f"`{key.default}`" if key.default else ""
            meaning, kind = key.description, key.kind.replace("|", "\\|")
            if variable := variables.get(".".join((*table.path, key.name))):
                meaning += f" `{variable}` in the environment wins."
            parts.append(f"| `{key.name}` | {kind} | {default} | {meaning} | `{key.example}` |\n")
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def template() -> str:
    """The file that `bridge init` writes: what is required with an example, all else as a comment."""
    lines = [
        "# Settings of sfcc-mirakl-bridge. `bridge check` names every mistake in this file at once.",
        "# What stands behind a # is the default, or an example of what can be set.",
        "# Secrets never stand here: env:NAME and file:/path say where they are found, and are read at every use.",
    ]
    for table in tables():
        about = textwrap.wrap(table.about if table.path else "", 116, initial_indent="# ", subsequent_indent="# ")
        head = f"[{key_of(*table.example_path)}]"
        active = [key for key in table.keys if key.starter and not table.optional]
        lines += ["", *about, *([head if active or not table.optional else f"# {head}"] if table.path else [])]
        for key in table.keys:
            kind = f"{key.description} ({key.kind})" if key.description else key.kind
            lines += textwrap.wrap(kind, 116, initial_indent="# ", subsequent_indent="# ")
            line = f"{key.name} = {key.default or key.example}"
            lines.append(line if key in active else f"# {line}")
    return "\n".join(lines) + "\n"


def _is_struct(hint: Any) -> bool:
    return isinstance(bare(hint), type) and issubclass(bare(hint), Struct)


def _first_paragraph(struct: type[Struct]) -> str:
    return " ".join((struct.__doc__ or "").split("\n\n")[0].split())


def _words(hint: Any) -> str:
    """A type in words, with its bounds."""
    kind = bare(hint)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(arguments)
    if origin is tuple:
        return f"list of: {_words(arguments[0])}"
    if origin is dict:
        return f"table: {_words(arguments[1])} by {_words(arguments[0])}"
    metas = _all_metas(hint)
    bounds = {sign: getattr(meta, name) for meta in metas for sign, name in _BOUNDS if getattr(meta, name) is not None}
    said = ", ".join(f"{sign} {bound}" for sign, bound in bounds.items() if bound < _UNBOUNDED)
    return f"{_WORDS[kind]} {said}".strip()


def _all_metas(hint: Any) -> list[Any]:
    found = metas_of(hint)
    inner = get_args(hint)[0] if found else hint
    if get_origin(inner) in (Union, types.UnionType):
        found = [meta for arm in get_args(inner) for meta in metas_of(arm)] + found
    return found


def main() -> None:
    """See the module."""
    if "--check" in sys.argv:
        if not REFERENCE.exists() or REFERENCE.read_text("utf-8") != reference():
            sys.exit("docs/settings.md is not what the code says: run `make schemas`")
        return
    REFERENCE.write_text(reference(), "utf-8")


if __name__ == "__main__":
    main()
