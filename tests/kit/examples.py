"""The examples of a page: shell blocks, and the JSON answers printed right below them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

ANY = "…"


def examples(page: Path) -> list[tuple[str, str | None]]:
    """Every bash block of the page with the answer printed below it, None where there is none."""
    found = re.findall(r"^```bash\n(.*?)^```$(?:\n\n```json\n(.*?)^```$)?", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(script, answer or None) for script, answer in found]


def block(page: Path, kind: str) -> str:
    """The first fenced block of a kind."""
    found = re.search(rf"^```{kind}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no block of {kind}"
    return found[1]


def run_all(scripts: list[str]) -> list[str]:
    """Runs blocks one after the other in one shell, so that what one exports the next one has; their outputs."""
    marker = "=====next====="
    done = subprocess.run(
        ["bash", "-eu", "-c", f"\necho; echo {marker}\n".join(scripts)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(marker)


def values(text: str) -> list[Any]:
    """The JSON values of a text, one after the other."""
    decoder, found = json.JSONDecoder(), []
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].lstrip()
    return found


def fits(printed: Any, answered: Any) -> bool:
    """True where the answer is as printed; `…` stands for any value, as a member's name for further members."""
    if printed == ANY:
        return True
    if isinstance(printed, dict) and isinstance(answered, dict):
        wanted = {name: value for name, value in printed.items() if name != ANY}
        if not wanted.keys() <= answered.keys() or (ANY not in printed and answered.keys() - wanted.keys()):
            return False
        return all(fits(value, answered[name]) for name, value in wanted.items())
    if isinstance(printed, list) and isinstance(answered, list):
        return len(printed) == len(answered) and all(map(fits, printed, answered))
    return bool(printed == answered)
