"""Apache Kafka as one process: broker and controller in one, on loopback, with real durability."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from bridge.embedded.jars import kafka_jars
from bridge.embedded.java import java
from bridge.embedded.places import free_port, listens
from bridge.embedded.server import EmbeddedServer
from shared.errors import Fatal, Transient
from shared.kafka import Address, cluster_id


class EmbeddedKafka(EmbeddedServer):
    """A running broker; `start` makes one."""

    name = "Kafka"
    stop_signal = drop_signal = signal.SIGTERM
    start_seconds = 60.0

    def __init__(self, data: Path | None, port: int, properties: Mapping[str, str]) -> None:
        super().__init__(data, port)
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self._controller_port = free_port()
        self._properties = properties

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
        kafka = cls(data, port or free_port(), properties or {})
        kafka._format()
        kafka.restart()
        return kafka

    def restart(self) -> None:
        """Start again on the same port with the same data, after `kill` or `terminate`; waits for an answer."""
        self._launch(
            [str(java()), "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
             "-cp", f"{kafka_jars()}/*", "kafka.Kafka", str(self._write_properties())],
            self._ask, cwd=self.folder,
        )  # fmt: skip

    def kill(self) -> None:
        """As a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        self._running.wait(10)

    def terminate(self) -> None:
        """As an orderly shutdown would."""
        self._running.terminate()
        self._running.wait(30)

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
            capture_output=True, text=True, timeout=self.start_seconds, check=False,
        )  # fmt: skip
        if done.returncode:
            raise Fatal(f"Kafka's data folder {self.folder} could not be formatted: {done.stderr[-2000:]}")

    async def _ask(self) -> None:
        # The client waits long for a port that nobody listens on yet.
        if not listens(self.port):
            raise Transient("the port is not open yet")
        await cluster_id(Address(self.bootstrap_servers), 2.0)
