"""A short run of the real thing; `make chaos` runs as long as one likes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.harness import Outcome, run
from tests.chaos.plan import KINDS, deck, percentile


def test_every_kind_of_hit_is_at_least_five_in_a_hundred() -> None:
    for kills in (20, 21, 57, 100, 300, 1000):
        hits = Counter(deck(kills, seed=3))
        assert hits.total() == kills
        assert all(hits[kind] >= kills / 20 for kind in KINDS), hits


def test_the_same_seed_hits_the_same_in_the_same_order() -> None:
    assert deck(40, seed=7) == deck(40, seed=7) != deck(40, seed=8)


def test_a_percentile_is_a_value_that_was_seen() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([], 0.5) == 0.0


@pytest.mark.parametrize(
    "count", ["lost", "doubled", "out_of_order", "effects_lost", "effects_doubled", "effects_unknown"]
)
def test_an_outcome_with_anything_lost_doubled_or_unknown_without_cause_is_not_clean(count: str) -> None:
    outcome = Outcome(seed=1)
    assert outcome.clean
    setattr(outcome, count, 1)
    assert not outcome.clean


@pytest.mark.timeout(900)
async def test_twenty_hits_lose_double_and_disorder_nothing(tmp_path: Path) -> None:
    outcome = await run(20, 11, tmp_path)
    assert outcome.clean, outcome.as_json()
    assert outcome.events > 500 * outcome.seconds * 0.9
    assert outcome.effects > 500
    assert sum(hit.in_flight for hit in outcome.hits) >= 10
    assert {hit.kind for hit in outcome.hits} == set(KINDS)
