"""A small remote system with effects and a memory, that loses answers on purpose.

    python -m tests.kit.remote --port 8099 --share 0.2 --seed 1

    PUT  /guarded/{name}     an effect once per name; a repeat is refused with 409 ALREADY_DONE
    PUT  /states/{name}      {"value": n} replaces what was there, however old the call is
    POST /unguarded/{name}   an effect per call: a repeat is a second one
    GET  the same            what a read-back sees: 404 where there is nothing
    GET  /memory             everything that happened, for who counts
    POST /faults             {"share": 0.2, "modes": [...], "next": [...]} from now on

A share of the calls with an effect is hit: `before` cuts the connection before the effect, `after` cuts it
after the effect and before the answer, `late` lets the client time out and has its effect then.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import aiohttp
from aiohttp import web

from bridge.embedded.places import free_port

Mode = Literal["before", "after", "late"]
MODES: Final[tuple[Mode, ...]] = ("before", "after", "late")


@dataclass(slots=True)
class Memory:
    """What the remote system did."""

    guarded: Counter[str] = field(default_factory=Counter)
    unguarded: Counter[str] = field(default_factory=Counter)
    states: dict[str, list[int]] = field(default_factory=dict)
    """Every value of a name in the order of their taking effect; the last is what is there."""
    refused: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    """How many calls were hit, by mode."""
    hit_unguarded: set[str] = field(default_factory=set)
    """Whose calls were hit: more of them than this can never be unknown because of us."""

    def as_json(self) -> dict[str, Any]:
        """For `GET /memory`."""
        return {
            "guarded": dict(self.guarded),
            "unguarded": dict(self.unguarded),
            "states": self.states,
            "refused": self.refused,
            "hits": dict(self.hits),
            "hit_unguarded": sorted(self.hit_unguarded),
        }


class RemoteSystem:
    """The program behind the routes."""

    def __init__(self, share: float, late_seconds: float, seed: int) -> None:
        self.memory = Memory()
        self.share = share
        self.late_seconds = late_seconds
        self.modes: list[Mode] = list(MODES)
        self.next: list[Mode | None] = []
        self._random = random.Random(seed)
        self._late: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        """The HTTP side."""
        app = web.Application()
        app.add_routes(
            [
                web.put("/guarded/{name}", self.put_guarded),
                web.get("/guarded/{name}", self.get_guarded),
                web.put("/states/{name}", self.put_state),
                web.get("/states/{name}", self.get_state),
                web.post("/unguarded/{name}", self.post_unguarded),
                web.get("/unguarded/{name}", self.get_unguarded),
                web.get("/memory", self.get_memory),
                web.post("/faults", self.post_faults),
            ]
        )
        return app

    async def put_guarded(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]

        def effect() -> web.Response:
            if self.memory.guarded[name]:
                self.memory.refused += 1
                return web.json_response({"code": "ALREADY_DONE"}, status=409)
            self.memory.guarded[name] += 1
            return web.json_response({"name": name})

        return await self._with_faults(request, effect)

    async def put_state(self, request: web.Request) -> web.Response:
        name, value = request.match_info["name"], int((await request.json())["value"])

        def effect() -> web.Response:
            self.memory.states.setdefault(name, []).append(value)
            return web.json_response({"name": name, "value": value})

        return await self._with_faults(request, effect)

    async def post_unguarded(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]

        def effect() -> web.Response:
            self.memory.unguarded[name] += 1
            return web.json_response({"name": name}, status=201)

        return await self._with_faults(request, effect)

    async def get_guarded(self, request: web.Request) -> web.Response:
        return _found(self.memory.guarded[request.match_info["name"]] or None)

    async def get_state(self, request: web.Request) -> web.Response:
        history = self.memory.states.get(request.match_info["name"])
        return _found(history[-1] if history else None)

    async def get_unguarded(self, request: web.Request) -> web.Response:
        return _found(self.memory.unguarded[request.match_info["name"]] or None)

    async def get_memory(self, request: web.Request) -> web.Response:
        return web.json_response(self.memory.as_json() | {"late": len(self._late)})

    async def post_faults(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        self.share = wanted.get("share", self.share)
        self.modes = wanted.get("modes", self.modes)
        self.next = wanted.get("next", self.next)
        return web.json_response({})

    def _draw(self) -> Mode | None:
        if self.next:
            return self.next.pop(0)
        return self._random.choice(self.modes) if self._random.random() < self.share else None

    async def _with_faults(self, request: web.Request, effect: Callable[[], web.Response]) -> web.Response:
        mode = self._draw()
        if mode is None:
            return effect()
        self.memory.hits[mode] += 1
        if request.path.startswith("/unguarded/"):
            self.memory.hit_unguarded.add(request.match_info["name"])
        if mode == "late":
            # The effect comes whether or not anybody still listens.
            late = asyncio.create_task(self._later(effect))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            await asyncio.shield(late)
        elif mode == "after":
            effect()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _later(self, effect: Callable[[], web.Response]) -> None:
        await asyncio.sleep(self.late_seconds)
        effect()


def _found(value: int | None) -> web.Response:
    return web.json_response({} if value is None else {"value": value}, status=404 if value is None else 200)


@asynccontextmanager
async def remote_system(*, share: float = 0.0, late_seconds: float = 0.9, seed: int = 1) -> AsyncIterator[str]:
    """The remote system in a process of its own, which outlives every hit on ours; its URL."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.kit.remote", "--port", str(port), "--share", str(share)),
        *("--late-seconds", str(late_seconds), "--seed", str(seed)),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _until_it_answers(url)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _until_it_answers(url: str) -> None:
    async with asyncio.timeout(20), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/memory"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--share", type=float, default=0.0, help="of calls with an effect that are hit")
    parser.add_argument("--late-seconds", type=float, default=0.9, help="longer than the client's time-out")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    system = RemoteSystem(asked.share, asked.late_seconds, asked.seed)
    web.run_app(system.app(), host="127.0.0.1", port=asked.port, print=None, access_log=None, shutdown_timeout=0.1)


if __name__ == "__main__":
    main()
