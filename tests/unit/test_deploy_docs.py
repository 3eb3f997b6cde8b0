"""What the documents tell people to type, to grant and to open is there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from bridge.__main__ import app
from shared.clients import EXPORT_SCOPES, SCOPES
from shared.topics import SERVICES

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("getting-started", "first-connection", "producing", "operations")
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in NAMES}


def anchors(text: str) -> set[str]:
    """The headings of a page as GitHub spells them in links."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.*)$", text)}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        path, _, anchor = target.partition("#")
        found = (ROOT / "docs" / path) if path else ROOT / "docs" / f"{name}.md"
        assert found.exists(), target
        assert not anchor or anchor in anchors(found.read_text()), target


def commands() -> Iterator[str]:
    """Every command of `bridge`, with its group before it."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    for name, command in top.commands.items():
        yield name
        if isinstance(command, TyperGroup):
            yield from (f"{name} {below}" for below in command.commands)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_is_named_exists(name: str) -> None:
    known = set(commands())
    groups = {command.partition(" ")[0] for command in known if " " in command}
    code = re.findall(r"`([^`\n]+)`", PAGES[name]) + re.findall(r"(?m)^(?:bridge/bin/)?bridge .*$", PAGES[name])
    for line in code:
        for words in re.findall(r"(?:^|-- |bin/)bridge ([a-z-]+(?: [a-z-]+)?)", line):
            first, _, second = words.partition(" ")
            assert first in known | groups, line
            assert first not in groups or f"{first} {second}" in known, line


def test_the_scopes_to_grant_are_those_that_the_code_asks_for() -> None:
    block = re.search(r"```\n((?:sfcc\.\S+\n)+)```", PAGES["getting-started"])
    assert block is not None
    assert set(block[1].split()) == {*SCOPES, *EXPORT_SCOPES}


def test_settings_in_the_text_are_toml_and_name_stages_that_exist() -> None:
    for text in PAGES.values():
        for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL):
            tomllib.loads(block)
    assert set(re.findall(r"`([a-z-]+)(?: = \"live\")", PAGES["first-connection"])) <= set(SERVICES)
