"""Folders, ports and locks that the embedded servers share."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shared.errors import Fatal


def cache_folder() -> Path:
    """Where what was fetched once is kept: XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "sfcc-mirakl-bridge"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def claim(folder: Path) -> IO[str]:
    """Hold a data folder as long as the returned file is open.

    Raises:
        Fatal: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".in-use").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise Fatal(
            f"{folder} is in use by another start: stop that one, or name another folder with --data"
        ) from error
    return file


def temporary_folder(what: str) -> Path:
    """A new folder for data that ends with the process."""
    return Path(tempfile.mkdtemp(prefix=f"sfcc-mirakl-bridge-{what}-"))
