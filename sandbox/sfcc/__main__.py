"""`python -m sandbox.sfcc`: the sandbox as a process of its own."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from sandbox.common.running import main
from sandbox.sfcc.app import build
from sandbox.sfcc.config import load_config


def _built(path: Path | None, seed: int) -> web.Application:
    return build(load_config(path), seed)


if __name__ == "__main__":
    main("sfcc", 8082, _built)
