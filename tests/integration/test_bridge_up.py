"""`bridge up`: all services against the endpoints of the settings, with servers of its own where none are named."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from bridge.demo.world import mirakl_config, secrets, settings, sfcc_config, write_files
from bridge.embedded.places import free_port
from bridge.fleet import environment_with
from sandbox.common.server import start
from sandbox.mirakl.app import SANDBOX
from sandbox.mirakl.app import build as build_mirakl
from sandbox.sfcc.app import build as build_sfcc
from shared.settings import SERVERS


async def up(*options: str, **variables: str) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in environment_with(**variables).items() if name not in SERVERS}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "up", *options, env=environment, stderr=asyncio.subprocess.PIPE
    )


async def told(process: asyncio.subprocess.Process, words: str) -> str:
    """What it says up to these words."""
    assert process.stderr is not None
    said = ""
    async with asyncio.timeout(300):
        while words not in said:
            line = await process.stderr.readline()
            assert line, said
            said += line.decode()
    return said


async def test_all_services_run_against_the_endpoints_of_the_settings_until_ctrl_c(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    market = build_mirakl(mirakl_config(now), seed=7)
    mirakl, sfcc = await start(market), await start(build_sfcc(sfcc_config(now, 7), 7))
    write_files(tmp_path, now, 7)
    (tmp_path / "bridge.toml").write_text(settings(mirakl.url, sfcc.url, tmp_path))
    port = free_port()
    process = await up(
        "--config", str(tmp_path / "bridge.toml"), "--data", str(tmp_path / "data"),
        CONTROL_ROOM_PORT=str(port), **secrets(),
    )  # fmt: skip
    try:
        said = await told(process, "Control room:")
        assert all(f"export {name}=" in said for name in SERVERS), "other commands need the addresses"
        async with aiohttp.ClientSession() as web:
            answer = await web.get(f"http://127.0.0.1:{port}/")
            assert answer.status == 200
            assert "Sign in" in await answer.text()
        assert market[SANDBOX].recorder.calls_by_operation["OR11"] > 0
    finally:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(90):
            assert await process.wait() == 0
        await mirakl.stop()
        await sfcc.stop()


async def test_a_file_that_is_no_toml_is_refused_in_one_line_and_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "bridge.toml").write_text("[kafka\n")
    process = await up("--config", str(tmp_path / "bridge.toml"), "--data", str(tmp_path / "data"))
    _, error = await process.communicate()
    assert (process.returncode, error.decode().count("\n")) == (1, 1), error.decode()
    assert "is no TOML" in error.decode()
    assert not (tmp_path / "data").exists()
