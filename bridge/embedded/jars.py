"""Apache Kafka's jars, resolved once into the cache and checked against the hashes kept here.

The `!` behind each coordinate turns managed dependencies off: log4j's own bill of materials would
otherwise pull in an older kafka-clients, and the broker would die with NoSuchMethodError.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from rich.console import Console

from bridge.embedded.places import cache_folder, locked
from shared.errors import Fatal

KAFKA_VERSION: Final = "4.3.1"
_COORDINATES: Final = "+".join(
    (
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}!",
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.1!",
        "org.apache.logging.log4j:log4j-core:2.25.1!",
    )
)


def expected_hashes() -> dict[str, str]:
    """File name to SHA-256, as pinned."""
    text = (files("bridge.embedded") / f"kafka-{KAFKA_VERSION}.sha256").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def differences(folder: Path, expected: dict[str, str]) -> list[str]:
    """What in a folder of jars is not as pinned, in words."""
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in sorted(folder.glob("*.jar"))}
    missing = [f"{name} is missing" for name in expected if name not in found]
    extra = [f"{name} does not belong here" for name in found if name not in expected]
    changed = [f"{name} has another hash" for name, digest in found.items() if expected.get(name, digest) != digest]
    return missing + extra + changed


def kafka_jars() -> Path:
    """The folder with Kafka's jars; fetches them the first time.

    Raises:
        Fatal: they could not be fetched, or are not what was pinned.
    """
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    expected = expected_hashes()
    with locked(cache_folder() / f"kafka-{KAFKA_VERSION}.lock"):
        if not folder.is_dir():
            _fetch(folder, expected)
    names = {jar.name for jar in folder.glob("*.jar")}
    if names != set(expected):
        raise Fatal(f"{folder} is not complete: remove it, and it is fetched again")
    return folder


def _fetch(folder: Path, expected: dict[str, str]) -> None:
    import jgo  # only who fetches needs it, and importing it takes a moment

    console = Console(stderr=True)
    with (
        console.status(f"fetching Apache Kafka {KAFKA_VERSION} ({len(expected)} jars, 44 MB, once)"),
        tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch,
    ):
        try:
            environment = jgo.build(_COORDINATES, cache_dir=Path(scratch) / "jgo")
        except Exception as error:
            raise Fatal(
                f"Apache Kafka {KAFKA_VERSION} could not be fetched ({type(error).__name__}: {error}). "
                "Check the network, or set KAFKA_BOOTSTRAP_SERVERS to a broker of your own."
            ) from error
        gathered = Path(scratch) / "lib"
        gathered.mkdir()
        for jar in Path(environment.path).glob("*/*.jar"):
            shutil.copy(jar, gathered / jar.name)
        if wrong := differences(gathered, expected):
            listed = "; ".join(wrong[:5])
            raise Fatal(f"Apache Kafka {KAFKA_VERSION} is not what was pinned: {listed}. Nothing was kept.")
        os.rename(gathered, folder)
    console.print(f"Apache Kafka {KAFKA_VERSION} is in {folder}")
