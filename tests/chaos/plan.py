"""What is hit, in which order: pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final, Literal, get_args

Kind = Literal["kill", "stop", "terminate", "cut", "postgres", "broker"]
"""SIGKILL of a replica; SIGSTOP past the session time-out; SIGTERM; connections reset; SIGKILL of PostgreSQL
or of the broker, and their restart."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

SHARES: Final[Mapping[Kind, float]] = {
    "kill": 0.34,
    "terminate": 0.2,
    "cut": 0.2,
    "postgres": 0.12,
    "broker": 0.07,
    "stop": 0.07,
}


def deck(kills: int, seed: int) -> list[Kind]:
    """That many hits, each kind at least five in a hundred, shuffled."""
    counts = {kind: max(-(-kills // 20), int(kills * share)) for kind, share in SHARES.items()}
    surplus = sum(counts.values()) - kills
    counts["kill"] -= surplus
    if counts["kill"] < -(-kills // 20):
        raise ValueError(f"{kills} hits are too few for {len(KINDS)} kinds: use at least 20")
    hits = [kind for kind, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(hits)
    return hits


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
