"""Apache Kafka as one process: broker and controller in one, on loopback, with real durability."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from bridge.embedded.guard import Guard
from bridge.embedded.jars import kafka_jars
from bridge.embedded.java import java
from bridge.embedded.places import claim, free_port, listens, temporary_folder
from shared.errors import Fatal, Transient
from shared.kafka import Address, cluster_id

START_SECONDS: Final = 60.0


class EmbeddedKafka:
    """A running broker; `start` makes one."""

    def __init__(
        self, folder: Path, port: int, controller_port: int, properties: Mapping[str, str], kept: bool
    ) -> None:
        self.port = port
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self.folder = folder
        self._controller_port = controller_port
        self._properties = properties
        self._kept = kept
        self._claim: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @classmethod
    def start(
        cls, *, data: Path | None = None, port: int | None = None, properties: Mapping[str, str] | None = None
    ) -> Self:
        """Start a broker and wait until it answers.

        `data` is a folder to keep; without it the data ends with the broker. `properties` are added to
        server.properties.

        Raises:
            Fatal: it does not start; the text has the end of its log.
        """
        folder = (data / "kafka") if data else temporary_folder("kafka")
        kafka = cls(folder, port or free_port(), free_port(), properties or {}, kept=data is not None)
        kafka._claim = claim(folder)
        kafka._format()
        kafka.restart()
        return kafka

    @property
    def pid(self) -> int:
        """The broker's process."""
        assert self._process is not None  # `start` made it
        return self._process.pid

    def restart(self) -> None:
        """Start again on the same port with the same data, after `kill` or `terminate`; waits for an answer."""
        log = (self.folder / "kafka.log").open("ab")
        self._process = subprocess.Popen(
            [str(java()), "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
             "-cp", f"{kafka_jars()}/*", "kafka.Kafka", str(self._write_properties())],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        log.close()
        if self._guard is None:
            self._guard = Guard(self.pid, signal.SIGTERM, None if self._kept else self.folder)
        else:
            self._guard.watch(self.pid)
        self._wait_for_an_answer()

    def kill(self) -> None:
        """As a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None  # it has a pid
        self._process.wait(10)

    def terminate(self) -> None:
        """As an orderly shutdown would."""
        assert self._process is not None  # `start` made it
        self._process.terminate()
        self._process.wait(30)

    def stop(self) -> None:
        """End it; its data goes too, unless a folder was named."""
        if self._guard is not None:
            reaper = threading.Thread(target=self._process.wait) if self._process else None
            if reaper:
                reaper.start()
            self._guard.stop()
            if reaper:
                reaper.join(10)
            self._guard = None
        if self._claim is not None:
            self._claim.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self.stop()

    def _write_properties(self) -> Path:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "logs"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            # After a crash the old registration has to expire before the broker is let in again.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "500",
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            settings[f"{topic}.replication.factor"] = "1"
        settings |= {"transaction.state.log.min.isr": "1", "share.coordinator.state.topic.min.isr": "1"}
        path = self.folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in (settings | dict(self._properties)).items()))
        return path

    def _format(self) -> None:
        if (self.folder / "logs" / "meta.properties").exists():
            return
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # A cluster id that starts with a dash would be taken for an option.
        name = "A" + name[1:] if name.startswith("-") else name
        done = subprocess.run(
            [str(java()), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{kafka_jars()}/*",
             "kafka.tools.StorageTool", "format", "-t", name, "-c", str(self._write_properties())],
            capture_output=True, text=True, timeout=START_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Fatal(f"Kafka's data folder {self.folder} could not be formatted: {done.stderr[-2000:]}")

    def _wait_for_an_answer(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self._process is not None  # it was just started
            if self._process.poll() is not None:
                break
            if not listens(self.port):
                time.sleep(0.05)
                continue
            try:
                blocking(cluster_id(Address(self.bootstrap_servers), 2.0))
                return
            except Transient:
                time.sleep(0.1)
        log = (self.folder / "kafka.log").read_text(errors="replace")
        self.stop()
        raise Fatal(f"Kafka did not start on {self.bootstrap_servers}. The end of its log:\n{log[-3000:]}")


def blocking(coroutine: Any) -> Any:
    """Run a coroutine to its end from plain code, also where this thread has a loop of its own."""
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
