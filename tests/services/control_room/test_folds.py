"""Cases and orders are made of their events, in whatever order those come."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from services.control_room.folds import Told, fold_case, fold_order
from shared.events.cases import CaseClosed, CaseEscalated, CaseOpened
from shared.events.control import OperatorNotedCase
from tests.kit.flow import NOW
from tests.kit.pages import Teller, captured, changed, sell, unmapped_sku


def told(teller: Teller, of: type | tuple[type, ...] | None = None) -> list[Told]:
    """The events of a teller as the folds take them."""
    return [
        Told(r.event, r.envelope.sequence, r.envelope.time)
        for r in teller.told
        if of is None or isinstance(r.event, of)
    ]


CASE = (CaseOpened, CaseEscalated, CaseClosed, OperatorNotedCase)


def a_case() -> tuple[Teller, str]:
    teller = Teller.new()
    case_id = unmapped_sku(teller, captured("W-1-A", NOW), "SOCKS", timedelta(hours=1))
    louder = NOW + timedelta(minutes=40)
    escalated = CaseEscalated(
        case_id=case_id, code="unmapped-sku", severity="critical", step="last-20-minutes", escalated_at=louder
    )
    teller.tell(escalated, louder)
    noted = OperatorNotedCase(
        about=f"case/{case_id}", by="u-olga", role="operations", at=NOW, case_id=case_id, taken=True, note="mine"
    )
    teller.tell(noted, NOW + timedelta(minutes=41))
    return teller, case_id


def test_a_case_is_the_same_whatever_order_its_events_came_in() -> None:
    teller, case_id = a_case()
    at = NOW + timedelta(minutes=50)
    teller.tell(CaseClosed(case_id=case_id, code="unmapped-sku", outcome="cause-fixed", closed_at=at), at)
    events = told(teller, CASE)
    expected = fold_case(events)

    assert (expected.is_open, expected.severity, expected.taken_by) == (False, "critical", "u-olga")
    for seed in range(20):
        random.Random(seed).shuffle(events)
        assert fold_case(events + events[:2]) == expected


def test_a_case_that_is_opened_again_is_open() -> None:
    teller, case_id = a_case()
    opened = next(r.event for r in teller.told if isinstance(r.event, CaseOpened))
    at = NOW + timedelta(minutes=50)
    teller.tell(CaseClosed(case_id=case_id, code="unmapped-sku", outcome="overtaken", closed_at=at), at)
    teller.tell(opened, at + timedelta(minutes=1))

    case = fold_case(told(teller, CASE))

    assert case.is_open
    assert case.severity == "high"
    assert case.outcome is None


@pytest.mark.parametrize(
    ("until", "stage"),
    [
        ("captured", "answer"),
        ("accepted", "create"),
        ("created", "ship"),
        ("held", "ship"),
        ("shipped", "money"),
        ("paid", "paid"),
    ],
)
def test_an_order_stands_at_the_stage_that_its_events_tell_in_any_order(until: str, stage: str) -> None:
    teller = Teller.new()
    sell(teller, captured("W-1-A", NOW), until)
    events = told(teller)

    for seed in range(10):
        random.Random(seed).shuffle(events)
        order = fold_order(events)
        assert order.stage == stage
        assert order.problem == ("unmapped-carrier" if until == "held" else None)


def test_an_older_version_of_an_order_that_comes_late_replaces_nothing() -> None:
    order = captured("W-1-A", NOW)
    newer, older = changed(order, "SHIPPED", NOW + timedelta(hours=2)), changed(order, "SHIPPING", NOW)

    folded = fold_order([Told(order, 1, NOW), Told(newer, 2, NOW), Told(older, 3, NOW + timedelta(hours=6))])

    assert folded.state == "SHIPPED"
