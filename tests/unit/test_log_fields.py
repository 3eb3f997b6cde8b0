"""What the code logs is what leaves the process: a field that is not on the list would be dropped in silence."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from shared.telemetry import LOG_FIELDS

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical"}
STRUCTLOG = {"exc_info"}


def logged(path: Path) -> set[tuple[str, int, str]]:
    """Every field of every log line of a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), keywords=words) if level in LEVELS:
                found |= {(str(path.relative_to(ROOT)), node.lineno, word.arg or "**") for word in words}
    return found


@pytest.mark.parametrize("place", ["shared", "services"])
def test_every_field_that_is_logged_is_on_the_list(place: str) -> None:
    fields = set().union(*map(logged, (ROOT / place).rglob("*.py")))
    assert fields, "the code logs something"
    assert [one for one in sorted(fields) if one[2] not in LOG_FIELDS | STRUCTLOG] == []
