"""Running a sandbox as a process of its own: serve until somebody says stop."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from sandbox.common.server import start


def run(app: web.Application, name: str, host: str, port: int) -> None:
    """Serves `app` until SIGINT or SIGTERM; says where on standard output. Raises OSError when the port is taken."""
    asyncio.run(_run(app, name, host, port))


async def _run(app: web.Application, name: str, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    bound = await start(app, host, port)
    print(f"{name} sandbox listens on {bound.url}; what it can be told: {bound.url}/control/openapi.json", flush=True)
    try:
        await stop.wait()
    finally:
        await bound.stop()


def main(name: str, usual_port: int, build: Callable[[Path | None, int], web.Application]) -> None:
    """The command line of `python -m sandbox.<name>`. Exits with 2 and a sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog=f"python -m sandbox.{name}", description=f"Serves the {name} sandbox.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=usual_port, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same sandbox")
    parser.add_argument("--config", type=Path, help="configuration file; without one, the built-in world")
    chosen = parser.parse_args()
    try:
        run(build(chosen.config, chosen.seed), name, chosen.host, chosen.port)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
