"""Secrets are rotated while calls go on, and appear nowhere: no log, no error, no trace, no process list."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from shared.errors import Refused
from shared.http import open_session
from shared.mirakl.client import MiraklClient
from shared.operations import OpenGate
from shared.secrets import Secret
from shared.settings_reference import template

ROOT = Path(__file__).parents[2]


@dataclass
class Marketplace:
    """Any vendor: it takes the keys that it is told, and repeats in its errors whatever it was sent."""

    accepted: set[str]
    seen: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        key = request.headers.get("Authorization", "")
        status = 200 if key in self.accepted else 401
        self.seen.append((key, status))
        told = f"no access with {key} {await request.text()}"
        return web.json_response({"status": status, "message": told, "error_description": told}, status=status)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


def rotate(path: Path, value: str) -> None:
    """As Kubernetes does it: the new file is renamed over the old one."""
    new = path.with_suffix(".new")
    new.write_text(value + "\n")
    new.rename(path)


async def test_a_key_rotated_while_calls_go_on_is_used_without_a_missed_call(tmp_path: Path) -> None:
    path = tmp_path / "key"
    rotate(path, "key-0")
    marketplace = Marketplace({"key-0"})
    stop = asyncio.Event()
    async with marketplace.open() as url, open_session() as session:
        client = MiraklClient(session, url, Secret(f"file:{path}", {}).value, "m/1", OpenGate())

        async def call() -> None:
            while not stop.is_set():
                await client.check_version()

        await client.check_version()
        callers = [asyncio.create_task(call()) for _ in range(4)]
        for n in range(1, 11):
            marketplace.accepted.add(f"key-{n}")
            rotate(path, f"key-{n}")
            async with asyncio.timeout(10):
                while f"key-{n}" not in {key for key, _ in marketplace.seen[-4:]}:
                    await asyncio.sleep(0)
            # Only when no call with the old key is under way any more is it taken back.
            standing = len(marketplace.seen) + 2 * len(callers)
            async with asyncio.timeout(10):
                while len(marketplace.seen) < standing:
                    await asyncio.sleep(0)
            marketplace.accepted.discard(f"key-{n - 1}")
        stop.set()
        await asyncio.gather(*callers)
    assert {status for _, status in marketplace.seen} == {200}
    assert {key for key, _ in marketplace.seen} == {f"key-{n}" for n in range(11)}


async def test_a_secret_whose_place_is_empty_for_a_moment_stays_in_use(tmp_path: Path) -> None:
    path = tmp_path / "key"
    rotate(path, "first")
    secret = Secret(f"file:{path}", {})
    assert secret.value() == "first"
    path.write_text("")
    assert secret.value() == "first"
    path.unlink()
    assert secret.value() == "first"
    rotate(path, "second")
    assert secret.value() == "second"
    environment = {"KEY": "a"}
    changing = Secret("env:KEY", environment)
    assert changing.value() == "a"
    environment["KEY"] = "b"
    assert changing.value() == "b"


async def test_a_key_that_is_taken_back_is_refused_in_words_without_the_key(tmp_path: Path) -> None:
    async with Marketplace(set()).open() as url, open_session() as session:
        client = MiraklClient(session, url, lambda: "mmm-key", "m/1", OpenGate())
        with pytest.raises(Refused) as refused:
            await client.check_version()
    assert refused.value.status == 401
    assert "mmm-key" not in repr(refused.value)


async def test_no_secret_appears_in_logs_errors_traces_or_the_process_list(tmp_path: Path) -> None:
    secrets = {
        name: f"zz-{name}-very-secret"
        for name in ("mirakl", "mirakl-new", "admin", "shopper", "postgres", "kafka", "broken")
    }
    for name, value in secrets.items():
        rotate(tmp_path / name, value)
    marketplace = Marketplace({secrets["mirakl"]})
    async with marketplace.open() as url:
        replaced = {
            '"https://worten-pt.mirakl.net"': f'"{url}"',
            '"env:MIRAKL_WORTEN_PT_2034"': f'"file:{tmp_path}/mirakl"',
            '"env:SFCC_CLIENT_SECRET"': f'"file:{tmp_path}/admin"',
            '"env:SFCC_SLAS_CLIENT_SECRET"': '"env:SHOPPER_SECRET"',
            '# account_manager_url = "https://account.demandware.com"': f'account_manager_url = "{url}"',
            '# scapi_url = "https://kv7kzm78.api.commercecloud.salesforce.com"': f'scapi_url = "{url}"',
            '# bootstrap_servers = ["kafka-1:9092", "kafka-2:9092"]': 'bootstrap_servers = ["127.0.0.1:1"]',
            '# security_protocol = "PLAINTEXT"': 'security_protocol = "SASL_PLAINTEXT"',
            '# sasl_username = "bridge"': 'sasl_username = "bridge"',
            '# sasl_password = "file:/run/secrets/kafka"': f'sasl_password = "file:{tmp_path}/kafka"',
            '# password = "file:/run/secrets/postgres"': f'password = "file:{tmp_path}/postgres"',
            '# url = "postgresql://bridge@127.0.0.1:5432/': 'url = "postgresql://bridge@127.0.0.1:1/',
        }
        text = template()
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "bridge.toml").write_text(text)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.talkative"),
            cwd=ROOT,
            env={**os.environ, "BRIDGE_CONFIG": f"{tmp_path}/bridge.toml", "SHOPPER_SECRET": secrets["shopper"]},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        output: list[str] = []

        async def ask(what: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{what}\n".encode())
            async with asyncio.timeout(20):
                while line := (await process.stdout.readline()).decode():
                    output.append(line)
                    if line.startswith(("done", "failed")):
                        return line
            raise AssertionError("it ended: " + "".join(output))

        try:
            assert (await ask("mirakl")).startswith("done")
            marketplace.accepted.add(secrets["mirakl-new"])
            rotate(tmp_path / "mirakl", secrets["mirakl-new"])
            assert (await ask("mirakl")).startswith("done")
            rotate(tmp_path / "mirakl", secrets["broken"])
            assert (await ask("mirakl")).startswith("failed Refused")
            for system in ("sfcc", "kafka", "postgres"):
                assert (await ask(system)).startswith("failed")
            listed = [process_list_of(process.pid), *(process_list_of(p.pid) for p in children(process.pid))]
            out, err = await process.communicate(b"")
        finally:
            with suppress(ProcessLookupError):
                process.kill()

    everything = "".join(output) + out.decode() + err.decode() + "".join(listed)
    assert [key for key, _ in marketplace.seen[:3]] == [secrets[n] for n in ("mirakl", "mirakl-new", "broken")]
    assert '"name": "V01"' in everything  # traces came out
    assert "failed" in json.dumps(output)  # and logs
    assert "Traceback" in everything
    assert "talkative" in listed[0]
    sent = {key.removeprefix("Basic ") for key, _ in marketplace.seen}
    assert len(sent) == 4  # three keys, and Account Manager's client
    assert [secret for secret in {*secrets.values(), *sent} if secret in everything] == []


def process_list_of(pid: int) -> str:
    """What anybody on the machine sees of a process."""
    process = psutil.Process(pid)
    return f"{process.name()} {' '.join(process.cmdline())}"


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)
