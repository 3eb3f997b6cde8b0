"""Kafka's own console producer: a client that is neither ours nor librdkafka's, run with the broker's Java and jars."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from bridge.embedded.jars import KAFKA_VERSION, kafka_jars
from bridge.embedded.java import java
from bridge.embedded.places import cache_folder, locked
from shared.errors import Fatal

JAR: Final = f"kafka-tools-{KAFKA_VERSION}.jar"
"""The rest of what the tool needs, the broker has."""
SHA256: Final = "62f3c5dd7aa3442d4c5bc6a95f86e2502178ea09de8e27f74d9563bf955e253c"
PROGRAM: Final = "kafka-console-producer.sh"


class Unreachable(Exception):
    """Something is not there yet and could not be fetched."""


def tools_jar() -> Path:
    """Kafka's command-line tools; fetched into the cache the first time, by one process at a time.

    Raises:
        Unreachable: it could not be fetched.
        ValueError: what was fetched is not what was pinned.
    """
    kept = cache_folder() / JAR
    with locked(cache_folder() / f"{JAR}.lock"):
        if not kept.exists():
            _fetch(kept)
    return kept


def _fetch(kept: Path) -> None:
    from jgo.maven import MavenContext  # only who fetches needs it

    console = Console(stderr=True)
    with (
        console.status(f"fetching {JAR} (0.7 MB, once)"),
        tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as scratch,
    ):
        tools = MavenContext(repo_cache=Path(scratch)).project("org.apache.kafka", "kafka-tools")
        try:
            jar = tools.at_version(KAFKA_VERSION).artifact().resolve()
        except Exception as error:
            raise Unreachable(f"{JAR} is not fetched yet: {type(error).__name__}: {error}") from error
        if hashlib.sha256(jar.read_bytes()).hexdigest() != SHA256:
            raise ValueError(f"{JAR} is not what was pinned; nothing was kept")
        os.rename(jar, kept)


def install(folder: Path) -> Path:
    """Put the program under the name that Kafka's distribution gives it into a folder, for PATH; the folder.

    Raises:
        Unreachable: what it needs could not be fetched.
        ValueError: what was fetched is not what was pinned.
    """
    try:
        program, jars = java(), kafka_jars()
    except Fatal as error:  # The broker is somebody else's, and this machine cannot have one.
        raise Unreachable(str(error)) from error
    command = [str(program), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command += ["-cp", f"{jars}/*:{tools_jar()}", "org.apache.kafka.tools.ConsoleProducer"]
    folder.mkdir(exist_ok=True)
    script = folder / PROGRAM
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    return folder
