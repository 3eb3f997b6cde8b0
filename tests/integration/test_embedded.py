"""Real Kafka and real PostgreSQL from wheels: they end with their parent, keep their data, stand side by side."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bridge.embedded.addresses import source_of
from bridge.embedded.guard import family_of, is_running, processes
from bridge.embedded.jars import differences
from bridge.embedded.java import version_of
from bridge.embedded.places import claim
from shared.errors import Fatal
from shared.kafka import Address, cluster_id, ensure_topics
from shared.topics import TOPICS

START_SECONDS = 60.0


class Local:
    """`bridge local` as a child process, in a session of its own as a terminal gives it."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "local", "--json", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def wait(self) -> Local:
        """Until it prints its addresses."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(self.process.stderr.read())
        self.addresses: dict[str, str] = json.loads(line)
        self.servers = self._servers()
        return self

    def _servers(self) -> list[psutil.Process]:
        """Everything that it started, the guards included."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        names = " ".join(" ".join(p.cmdline()) for p in found)
        assert "kafka.Kafka" in names
        assert "postgres" in names
        return found

    def end(self) -> None:
        """Whatever a test left behind."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(40)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def local(*options: str) -> Iterator[Local]:
    started = Local(*options)
    try:
        yield started
    finally:
        started.end()


def soon(holds: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for the moment."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.05)


def none_left(servers: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in servers)


async def write(addresses: dict[str, str]) -> str:
    """A row and a record; the cluster's id."""
    connection = await asyncpg.connect(addresses["DATABASE_URL"])
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    await connection.close()
    servers = addresses["KAFKA_BOOTSTRAP_SERVERS"]
    await ensure_topics(Address(servers), TOPICS[:1])
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    await producer.send_and_wait(TOPICS[0].name, b"kept", partition=0)
    await producer.stop()
    return await cluster_id(Address(servers))


async def read(addresses: dict[str, str]) -> tuple[Any, Any, str]:
    """What `write` left, and the cluster's id."""
    connection = await asyncpg.connect(addresses["DATABASE_URL"])
    n = await connection.fetchval("SELECT n FROM kept")
    fsync = await connection.fetchval("SHOW fsync")
    await connection.close()
    assert fsync == "on", "as in production"
    servers = addresses["KAFKA_BOOTSTRAP_SERVERS"]
    consumer = AIOKafkaConsumer(TOPICS[0].name, bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    record = await asyncio.wait_for(consumer.getone(), 20)
    await consumer.stop()
    return n, record.value, await cluster_id(Address(servers))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: every session that starts closes that one to other users, and PostgreSQL's may be one."""
    with tempfile.TemporaryDirectory(prefix="kept-") as path:
        yield Path(path)


def test_data_in_a_folder_is_kept_over_restarts_and_a_second_start_on_it_is_refused(folder: Path) -> None:
    with local("--data", str(folder / "data")) as first:
        first.wait()
        cluster = asyncio.run(write(first.addresses))
        with local("--data", str(folder / "data")) as refused:
            _, err = refused.process.communicate(timeout=START_SECONDS)
            assert refused.process.returncode == 1
            assert "in use by another start: stop that one" in " ".join(err.split())
        os.killpg(first.process.pid, signal.SIGINT)  # Ctrl-C reaches everything in the terminal's group.
        assert first.process.wait(40) == 0
        assert none_left(first.servers)
    with local("--data", str(folder / "data")) as second:
        second.wait()
        assert asyncio.run(read(second.addresses)) == (42, b"kept", cluster)


def test_two_starts_stand_side_by_side_and_go_when_their_parent_is_killed() -> None:
    with local() as first, local() as second:
        first.wait()
        second.wait()
        assert not set(first.addresses.values()) & set(second.addresses.values())
        clusters = {
            asyncio.run(cluster_id(Address(one.addresses["KAFKA_BOOTSTRAP_SERVERS"]))) for one in (first, second)
        }
        assert len(clusters) == 2
        folders = [Path(p.cwd()) for p in first.servers if "kafka.Kafka" in " ".join(p.cmdline())]
        first.process.kill()
        soon(lambda: none_left(first.servers))
        assert not none_left(second.servers), "the other start is nobody's business"
        soon(lambda: not any(folder.exists() for folder in folders))
        second.process.terminate()
        assert second.process.wait(40) == 0
        assert none_left(second.servers)


def test_the_environment_comes_first_then_docker_then_the_wheels() -> None:
    assert source_of("kafka:9092", docker=True) == "environment"
    assert source_of(None, docker=True) == "docker"
    assert source_of(None, docker=False) == "embedded"


def test_jars_are_taken_only_as_they_were_pinned(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"a")
    (tmp_path / "b.jar").write_bytes(b"b")
    expected = {"a.jar": "0" * 64, "c.jar": "1" * 64}
    assert differences(tmp_path, expected) == [
        "c.jar is missing",
        "b.jar does not belong here",
        "a.jar has another hash",
    ]


def test_a_folder_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    held = claim(tmp_path)
    with pytest.raises(Fatal, match="in use by another start"):
        claim(tmp_path)
    held.close()
    claim(tmp_path).close()


def test_the_guard_sees_whole_families_with_or_without_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"])
    try:
        soon(lambda: len(family_of(child.pid)) == 2)
        monkeypatch.setenv("PATH", "")
        assert len(family_of(child.pid)) == 2
        assert processes()[child.pid][0] == os.getpid()
        assert is_running(child.pid)
    finally:
        for pid in reversed(family_of(child.pid)):
            os.kill(pid, signal.SIGKILL)
    soon(lambda: not is_running(child.pid))  # An entry that was not collected yet does not run.
    child.wait()


def test_a_java_program_tells_its_version(tmp_path: Path) -> None:
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho 'openjdk version \"21.0.8\" 2025-07-15' >&2\n")
    fake.chmod(0o755)
    assert version_of(str(fake)) == 21
    fake.write_text("#!/bin/sh\necho nonsense >&2\n")
    assert version_of(str(fake)) == 0
