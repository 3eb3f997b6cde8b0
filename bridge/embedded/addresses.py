"""Where Kafka and PostgreSQL are: from the environment, else from Docker, else embedded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Literal

from bridge.embedded.kafka import EmbeddedKafka
from bridge.embedded.postgres import EmbeddedPostgres

Source = Literal["environment", "docker", "embedded"]


def docker_answers() -> bool:
    """Whether a Docker engine (not just its client) is there, asked for two seconds."""
    try:
        asked = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=2)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def source_of(given: str | None, docker: bool) -> Source:
    """What is given wins; a container is closer to production than a wheel; the wheel is always there."""
    return "environment" if given else "docker" if docker else "embedded"


@contextmanager
def addresses() -> Iterator[tuple[str, str]]:
    """Kafka's bootstrap servers and PostgreSQL's URL; what was started for it ends with the block."""
    servers, url = os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), os.environ.get("DATABASE_URL")
    docker = not (servers and url) and docker_answers()
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        kafka = pool.submit(_kafka, servers, docker, stack)
        postgres = pool.submit(_postgres, url, docker, stack)
        yield kafka.result(), postgres.result()


def _kafka(given: str | None, docker: bool, stack: ExitStack) -> str:
    match source_of(given, docker):
        case "environment":
            return str(given)
        case "docker":
            from testcontainers.kafka import KafkaContainer

            container = stack.enter_context(KafkaContainer("apache/kafka:4.3.1").with_kraft())
            return str(container.get_bootstrap_server())
        case "embedded":
            return stack.enter_context(EmbeddedKafka.start()).bootstrap_servers


def _postgres(given: str | None, docker: bool, stack: ExitStack) -> str:
    match source_of(given, docker):
        case "environment":
            return str(given)
        case "docker":
            from testcontainers.postgres import PostgresContainer

            container = stack.enter_context(PostgresContainer("postgres:18", driver=None))
            return str(container.get_connection_url())
        case "embedded":
            return stack.enter_context(EmbeddedPostgres.start()).url
