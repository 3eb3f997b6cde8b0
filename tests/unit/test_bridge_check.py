"""`bridge init` writes a file, `bridge check` names its mistakes: in words, as JSON, and by exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.__main__ import app
from tests.unit.test_settings import BAD, EXPECTED, SECRETS


def bridge(*arguments: str, status: int, **environment: str) -> Result:
    result = CliRunner(env={"COLUMNS": "300", "TERMINAL_WIDTH": "300", **environment}).invoke(app, arguments)
    assert result.exit_code == status, (result.stdout, result.stderr, result.exception)
    return result


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, without a file that the environment names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BRIDGE_CONFIG", raising=False)


def test_a_file_is_written_checked_and_never_overwritten_by_accident(tmp_path: Path) -> None:
    assert "bridge.toml is written" in bridge("init", status=0).stdout
    assert "has no mistakes" in bridge("check", status=0, **SECRETS).stdout
    Path("bridge.toml").write_text("mine = true\n")
    assert "--force" in bridge("init", status=1).stderr
    assert Path("bridge.toml").read_text() == "mine = true\n"
    assert json.loads(bridge("init", "--force", "--json", status=0).stdout) == {"written": "bridge.toml"}
    assert "No such file or directory" in bridge("init", "nowhere/bridge.toml", status=1).stderr


def test_all_mistakes_come_out_in_words_and_as_json(tmp_path: Path) -> None:
    Path("bad.toml").write_text(BAD)
    keys = {"KEY_A": "one-key-for-two", "KEY_B": "one-key-for-two"}
    words = bridge("check", "bad.toml", status=1, **keys)
    report = json.loads(bridge("check", "bad.toml", "--json", status=1, **keys).stdout)
    assert {mistake["key"] for mistake in report["mistakes"]} == set(EXPECTED)
    assert (report["ok"], report["file"]) == (False, "bad.toml")
    for key, reason in EXPECTED.items():
        assert key in words.stdout
        assert reason in words.stdout
    assert f"bad.toml has {len(EXPECTED)} mistake(s)" in words.stdout
    for secret in ("hunter2", "hunter3", "one-key-for-two"):
        assert secret not in words.output + json.dumps(report)


def test_the_connections_are_added_up() -> None:
    bridge("init", status=0)
    text = Path("bridge.toml").read_text()
    sizes = "[services.acceptor]\nreplicas = 3\nconnections = 10\n"
    Path("bridge.toml").write_text(text.replace("# [services.acceptor]", sizes))
    pools = json.loads(bridge("check", "--json", status=0, **SECRETS).stdout)["pools"]
    assert {row["service"]: row["wanted"] for row in pools["services"]}["acceptor"] == 30
    assert (pools["wanted"], pools["reserved"], pools["max_connections"]) == (5 * 4 + 6 + 30, 10, 100)
    assert "56" in bridge("check", status=0, **SECRETS).stdout


def test_the_file_is_found_where_the_environment_says(tmp_path: Path) -> None:
    bridge("init", "elsewhere.toml", status=0)
    assert (
        "elsewhere.toml has no mistakes" in bridge("check", status=0, BRIDGE_CONFIG="elsewhere.toml", **SECRETS).stdout
    )
    assert "`bridge init`" in bridge("check", status=2).stderr


def test_a_file_that_is_no_toml_is_one_mistake() -> None:
    Path("bridge.toml").write_text("[kafka\n")
    report = json.loads(bridge("check", "--json", status=1).stdout)
    assert report["pools"] is None
    assert "is no TOML" in report["mistakes"][0]["reason"]
    assert "is no TOML" in bridge("check", status=1).stdout
