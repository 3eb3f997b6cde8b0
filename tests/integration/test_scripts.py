"""The console scripts of the services: what they do when they are started wrongly."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bridge.fleet import environment_with
from shared.lifecycle import EXIT_FATAL
from shared.topics import CONTROL_ROOM, SERVICES

WITHOUT_COMMANDS = [name for name in SERVICES if name != CONTROL_ROOM]


def start(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"services.{name.replace('-', '_')}", *arguments]
    environment = environment_with(BRIDGE_CONFIG="/nowhere/bridge.toml")
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.mark.parametrize("name", SERVICES)
def test_with_wrong_settings_a_service_says_so_in_one_line_and_is_not_to_be_started_again(name: str) -> None:
    ended = start(name)
    assert ended.returncode == EXIT_FATAL, ended.stderr
    assert "fatal: /nowhere/bridge.toml: No such file or directory" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", WITHOUT_COMMANDS)
def test_a_service_takes_no_arguments_and_does_not_start_with_one(name: str) -> None:
    ended = start(name, "--help")
    assert ended.returncode == 1
    assert "takes no arguments, not even --help" in ended.stderr
