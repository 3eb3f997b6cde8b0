"""What docs/sandbox-sfcc.md says is what the sandbox does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sandbox.sfcc.config import Config, Switches, load_config
from sandbox.sfcc.control import endpoints
from sandbox.sfcc.instance import Instance

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "sandbox-sfcc.md"
ANY = "…"


def blocks(kind: str) -> list[str]:
    """The fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def examples() -> list[tuple[str, str | None]]:
    """Every bash block with the answer printed right below it, if there is one."""
    found = re.findall(
        r"^```bash\n(.*?)^```$(?:\n\n```json\n(.*?)^```$)?", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )
    return [(script, answer or None) for script, answer in found]


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
        open_ended = ANY in printed
        wanted = {name: value for name, value in printed.items() if name != ANY}
        if not (wanted.keys() <= answered.keys()) or (not open_ended and answered.keys() - wanted.keys()):
            return False
        return all(fits(value, answered[name]) for name, value in wanted.items())
    if isinstance(printed, list) and isinstance(answered, list):
        return len(printed) == len(answered) and all(map(fits, printed, answered))
    return bool(printed == answered)


@pytest.fixture
def url() -> Iterator[str]:
    """A sandbox started as the document says, on a free port."""
    command = [sys.executable, "-m", "sandbox.sfcc", "--port", "0", "--seed", "7"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert found
        yield found.group(0)
        process.terminate()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_every_curl_block_answers_as_printed(url: str) -> None:
    parts = [script.replace("http://127.0.0.1:8082", url) for script, _ in examples()]
    marker = "=====next====="
    script = f"\necho; echo {marker}\n".join(parts)
    done = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.split(marker)
    assert len(answers) == len(parts)
    for (example, printed), answered in zip(examples(), answers, strict=True):
        if printed is not None:
            assert fits(values(printed), values(answered)), f"{example}\nprinted:\n{printed}\nanswered:\n{answered}"


def test_the_example_configuration_starts(tmp_path: Path) -> None:
    path = tmp_path / "my-shop.toml"
    path.write_text(blocks("toml")[0])
    settings = load_config(path)
    instance = Instance(settings, 1)
    assert list(instance.sites) == ["MainSite", "UsSite"]
    assert instance.ats("UsSite", "LAMP-1") == 7


def test_a_mistake_in_the_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text('organisation = "x"')
    with pytest.raises(ValueError, match="organisation"):
        load_config(path)
    path.write_text('[[sites]]\nid = "A"\nprice_books = ["none"]')
    with pytest.raises(ValueError, match="price book none"):
        Instance(load_config(path), 1)


def test_every_switch_and_every_control_is_explained() -> None:
    text = DOCUMENT.read_text()
    missing = [one.name for one in msgspec.structs.fields(Switches) if f"`{one.name}`" not in text]
    missing += [one.path for one in endpoints(Instance(Config(), 0)) if one.path not in text]
    assert not missing
