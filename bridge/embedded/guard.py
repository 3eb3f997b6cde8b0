"""The guard: ends a server process and removes its temporary folder when its parent is gone.

It runs as a process of its own in a session of its own, so that Ctrl-C in a terminal does not reach it,
and reads from a pipe that only the parent holds open. End of file means that the parent closed it on
purpose or died, even by SIGKILL; either way the guard does the same thing, so there is one way to stop.

Lines it reads: `pid N` (the process to end, replacing an earlier one).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

TERMINATE_SECONDS: Final = 10.0
STOP_SECONDS: Final = 120.0
"""To end and to clean up: a folder of hundreds of databases takes its time on a busy disk."""


class Guard:
    """The parent's end."""

    def __init__(self, pid: int, stop_signal: signal.Signals, remove: Path | None = None) -> None:
        self._process = subprocess.Popen(
            # By its path, not as a module: it needs nothing but the standard library and starts at once.
            [sys.executable, __file__, str(int(stop_signal)), str(remove or "")],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self.watch(pid)

    def watch(self, pid: int) -> None:
        """Look after this process from now on."""
        assert self._process.stdin is not None  # it was opened as a pipe
        self._process.stdin.write(f"pid {pid}\n".encode())
        self._process.stdin.flush()

    def stop(self) -> None:
        """End the process, remove the folder, and wait until that is done."""
        assert self._process.stdin is not None  # as above
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(STOP_SECONDS)


def family_of(pid: int) -> list[int]:
    """The process and all its descendants; PostgreSQL's children lead sessions of their own."""
    children: dict[int, list[int]] = {}
    for child, (parent, _) in processes().items():
        children.setdefault(parent, []).append(child)
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that its parent has yet to collect."""
    _, state = processes().get(pid, (0, "Z"))
    return state != "Z"


def processes() -> dict[int, tuple[int, str]]:
    """Every process with its parent and its state (`Z`: ended, not yet collected).

    Read from /proc where there is one, because small images of Linux come without `ps`.
    """
    found: dict[int, tuple[int, str]] = {}
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    # The name stands in brackets and may hold anything, so what counts follows the last one.
                    state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                    found[int(entry.name)] = int(parent), state
        return found
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        pid, parent, state = line.split()[:3]
        found[int(pid)] = int(parent), state[0]
    return found


def end(pid: int, stop_signal: signal.Signals) -> None:
    """Ask, wait, insist; a stopped process is woken, so that it can hear."""
    family = family_of(pid)
    signal_all([pid], stop_signal)
    signal_all([pid], signal.SIGCONT)
    until = time.monotonic() + TERMINATE_SECONDS
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    signal_all(family, signal.SIGKILL)
    while any(is_running(member) for member in family) and time.monotonic() < until + 5:
        time.sleep(0.05)


def main() -> None:
    """Wait for the parent's end, then clean up."""
    stop_signal, folder = signal.Signals(int(sys.argv[1])), sys.argv[2]
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    pid = 0
    for line in sys.stdin:
        pid = int(line.split()[1])
    if pid:
        end(pid, stop_signal)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
