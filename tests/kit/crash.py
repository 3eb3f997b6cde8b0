"""A process that dies at its n-th step: before or after every statement, commit, poll and send.

Once dead, every further step dies too, so that no clean-up helps: what is left is what PostgreSQL has
committed and Kafka has taken. The server rolls an open transaction back, as it does for a lost client.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from asyncpg.transaction import Transaction as DriverTransaction

from shared.database import Database, Rows
from tests.kit.scripted import ScriptedConsumer, ScriptedProducer


class Crash(BaseException):
    """The process is gone."""


@dataclass
class Steps:
    """Counts the steps of one process and kills it at one of them."""

    crash_at: int
    taken: list[str] = field(default_factory=list)
    dead: bool = False

    def step(self, name: str) -> None:
        """One more step."""
        if not self.dead:
            self.taken.append(name)
            self.dead = len(self.taken) == self.crash_at
        if self.dead:
            raise Crash(name)


def count_steps(patch: pytest.MonkeyPatch, steps: Steps) -> None:
    """Let every step of this process count."""
    for owner, names in (
        (Rows, ("execute", "fetch", "fetchrow", "fetchval", "copy")),
        (Database, ("execute", "fetch")),
        (DriverTransaction, ("commit",)),
        (ScriptedConsumer, ("poll", "commit")),
        (ScriptedProducer, ("send",)),
    ):
        for name in names:
            patch.setattr(owner, name, _counted(owner, name, steps))


def _counted(owner: type, name: str, steps: Steps) -> Callable[..., Any]:
    original = getattr(owner, name)

    async def counted(self: Any, *values: Any, **options: Any) -> Any:
        said = " ".join(values[0].split()[:4]) if values and isinstance(values[0], str) else ""
        label = f"{owner.__name__}.{name} {said}".strip()
        steps.step(f"before {label}")
        result = await original(self, *values, **options)
        steps.step(f"after {label}")
        return result

    return counted
