"""What docs/sandbox.md says is what the sandbox does; its lists of calls, and those of its neighbours."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.__main__ import app
from sandbox import __main__ as calls
from sandbox.common.faults import KINDS
from sandbox.mirakl.app import Sandbox
from sandbox.mirakl.config import default_config, load_config
from sandbox.mirakl.control import ACTIONS
from tests.kit.examples import block, examples, fits, run_all, values

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "sandbox.md"


STRANGE_KEY = """{"marketplaces": [
    {"name": "a", "shops": [{"id": 1, "name": "x"}], "keys": [{"key": "k", "user": "u", "shops": [2]}]}
]}"""


@pytest.fixture
def url() -> Iterator[str]:
    """A sandbox started as the page says, on a free port."""
    command = [sys.executable, "-m", "bridge", "sandbox", "mirakl", "--port", "0", "--seed", "7"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert found
        yield found[0]
        process.terminate()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_every_curl_block_answers_as_printed(url: str) -> None:
    found = examples(PAGE)
    answers = run_all([script.replace("http://127.0.0.1:8081", url) for script, _ in found])
    for (script, printed), answered in zip(found, answers, strict=True):
        if printed is not None:
            assert fits(values(printed), values(answered)), f"{script}\nprinted:\n{printed}\nanswered:\n{answered}"


def test_the_example_configuration_starts(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.toml"
    path.write_text(block(PAGE, "toml"))
    sandbox = Sandbox(load_config(path), 1)
    assert list(sandbox.markets) == ["north", "south"]
    assert len(sandbox.markets["north"].shops[10].orders) == 5
    assert sandbox.clock.speed == 60


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"marketplaces": [], "colour": 1}', "colour"),
        ('{"marketplaces": []}', "marketplace names"),
        ('{"marketplaces": [{"name": "control", "shops": [], "keys": []}]}', "control"),
        (STRANGE_KEY, "shops"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "sandbox.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=named):
        load_config(path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_config(tmp_path / "nothing.json")


@pytest.mark.parametrize("name", ["mirakl", "sfcc"])
def test_the_command_says_what_is_wrong_and_ends(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sandbox.json"
    path.write_text('{"colour": 1}')
    done = CliRunner().invoke(app, ["sandbox", name, "--config", str(path)])
    assert done.exit_code == 2
    assert "colour" in done.output


def test_every_fault_and_every_action_is_explained() -> None:
    text = PAGE.read_text()
    assert [one for one in (*KINDS, *ACTIONS) if f"`{one}`" not in text] == []


def test_the_lists_of_calls_are_the_ones_served() -> None:
    pages = calls.pages()
    assert {path: path.read_text("utf-8") for path in pages} == pages, "run make schemas"
    guide = pages[calls.GUIDE]
    assert all(name in guide for name in ("OR21", "SBC11", "`createOrders`", "`webdavPropfind`", "OCAPI"))


def test_without_a_file_there_is_the_built_in_world() -> None:
    assert load_config(None) == default_config()
