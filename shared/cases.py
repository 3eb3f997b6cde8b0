"""Exception cases: opened, escalated and closed as events, in the transaction of what they are about.

A case has one id made of its code, what it is about and its cause, so opening it twice is opening it
once. Whoever puts a cause right closes every case it opened; a person closes those that nothing else
closes. A code needs its handbook entry, which says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec
import structlog

from shared.database import Rows
from shared.events.base import Event
from shared.events.cases import CaseClosed, CaseEscalated, CaseOpened, Severity
from shared.events.control import OperatorClosedCase
from shared.handbook import HANDBOOK, entry
from shared.handlers import Received
from shared.money import Money
from shared.outbox import Transaction

log = structlog.get_logger(__name__)

Outcome = Literal["cause-fixed", "settled-by-operator", "overtaken"]

_MAX_ID_CHARACTERS = 128


def case_id_of(code: str, about: str, cause: str | None = None) -> str:
    """The id of a case: the same for the same question, readable where it fits."""
    plain = f"{code}/{about}"
    if cause is None and len(plain) <= _MAX_ID_CHARACTERS:
        return plain
    digest = hashlib.sha256(f"{about}\0{cause or ''}".encode()).hexdigest()[:16]
    return f"{plain[: _MAX_ID_CHARACTERS - 17]}/{digest}"


async def open_case(
    tx: Transaction,
    code: str,
    *,
    about: str,
    title: str | None = None,
    what_to_do: str | None = None,
    cause: str | None = None,
    severity: Severity | None = None,
    due_at: datetime | None = None,
    money_at_risk: Money | None = None,
    marketplace: str | None = None,
    shop: str | None = None,
    facts: Mapping[str, str] | None = None,
) -> str:
    """Ask a person, with this transaction; the case's id. A case that is open already stays as it is, and one that
    a person closed by hand stays closed while its facts are the same.

    `about` and `cause` are object references (`order/worten-pt/W-1`, `mapping/worten-pt/sku/SOCKS`). What
    is not given comes from the code's handbook entry. Never personal data.

    Raises:
        ValueError: the code has no handbook entry.
    """
    known = entry(code)
    case_id = case_id_of(code, about, cause)
    opened = CaseOpened(
        case_id=case_id,
        code=code,
        service=tx.service,
        about=about,
        title=title or known.title,
        what_to_do=what_to_do or "\n".join(f"{n}. {step}" for n, step in enumerate(known.steps, 1)),
        owner_team=known.owner_team,
        severity=severity or known.severity,
        opened_at=tx.time,
        due_at=due_at,
        money_at_risk=money_at_risk,
        marketplace=marketplace,
        shop=shop,
        cause=cause,
        facts=dict(facts or {}),
    )
    version = await tx.fetchval(
        """INSERT INTO cases AS c (case_id, code, about, cause, severity, opened, opened_at)
           VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7)
           ON CONFLICT (case_id) DO UPDATE SET severity = excluded.severity, steps = '{}', opened = excluded.opened,
               opened_at = excluded.opened_at, closed_at = NULL, closed = NULL, settled = false, version = c.version + 1
           WHERE c.closed_at IS NOT NULL AND NOT ($8 AND c.settled
               AND c.opened -> 'facts' IS NOT DISTINCT FROM excluded.opened -> 'facts') RETURNING version""",
        case_id,
        code,
        about,
        cause,
        opened.severity,
        msgspec.json.encode(opened).decode(),
        tx.time,
        known.by_hand,
    )
    if version is not None:
        tx.publish(opened, sequence=version)
    return case_id


async def escalate_case(
    tx: Transaction,
    case_id: str,
    step: str,
    *,
    severity: Severity,
    due_at: datetime | None = None,
    money_at_risk: Money | None = None,
) -> bool:
    """Announce an open case again, louder; once per `step`, the rung of the alert ladder. Whether it was news."""
    row = await tx.fetchrow(
        """UPDATE cases SET severity = $3::text, steps = steps || $2::text, version = version + 1,
                  opened = opened || jsonb_build_object('severity', $3::text)
           WHERE case_id = $1 AND closed_at IS NULL AND NOT $2::text = ANY(steps) RETURNING code, version""",
        case_id,
        step,
        severity,
    )
    if row is None:
        return False
    tx.publish(
        CaseEscalated(
            case_id=case_id,
            code=row["code"],
            severity=severity,
            step=step,
            due_at=due_at,
            money_at_risk=money_at_risk,
            escalated_at=tx.time,
        ),
        sequence=row["version"],
    )
    return True


async def close_cases(
    tx: Transaction,
    *,
    cause: str | None = None,
    about: str | None = None,
    code: str | None = None,
    case_ids: Sequence[str] | None = None,
    outcome: Outcome = "cause-fixed",
    explanation: str | None = None,
    by: str | None = None,
) -> list[str]:
    """Close every open case of this service that fits all that is given; the ids of those that were open.

    `by` is the opaque id of a person.

    Raises:
        ValueError: neither cause, about nor ids: that would close them all.
    """
    if cause is None and about is None and case_ids is None:
        raise ValueError("name the cause, what the cases are about or their ids: else all open cases would be closed")
    by_hand = outcome == "settled-by-operator"
    # Where the trouble itself has ended, what a person closed before was about that one and not about the next.
    rows = await tx.fetch(
        """WITH ended AS (
               UPDATE cases SET settled = false
               WHERE settled AND NOT $5 AND ($1::text IS NULL OR cause = $1) AND ($2::text IS NULL OR about = $2)
                 AND ($3::text IS NULL OR code = $3) AND ($4::text[] IS NULL OR case_id = ANY($4)))
           SELECT case_id, code, version FROM cases
           WHERE closed_at IS NULL AND ($1::text IS NULL OR cause = $1) AND ($2::text IS NULL OR about = $2)
             AND ($3::text IS NULL OR code = $3) AND ($4::text[] IS NULL OR case_id = ANY($4))
           ORDER BY case_id FOR UPDATE""",
        cause,
        about,
        code,
        case_ids,
        by_hand,
    )
    closings = [
        CaseClosed(
            case_id=row["case_id"],
            code=row["code"],
            outcome=outcome,
            explanation=explanation,
            by=by,
            closed_at=tx.time,
        )
        for row in rows
    ]
    if not closings:
        return []
    await tx.execute(
        """UPDATE cases AS c SET closed_at = $3, closed = n.closed::jsonb, version = c.version + 1, settled = $4
           FROM unnest($1::text[], $2::text[]) AS n(case_id, closed) WHERE c.case_id = n.case_id""",
        [closing.case_id for closing in closings],
        [msgspec.json.encode(closing).decode() for closing in closings],
        tx.time,
        by_hand,
    )
    for row, closing in zip(rows, closings, strict=True):
        tx.publish(closing, sequence=row["version"] + 1)
    return [closing.case_id for closing in closings]


async def close_by_person(received: Received[OperatorClosedCase], tx: Transaction) -> None:
    """The handler of `operator.closed-case.v1`, the same in every service: close the case that a person looked at.

    Other services' cases, unknown ones and those that are closed already or were opened again since are left
    alone. So are those whose handbook entry does not say `by_hand`: what they stand for would go on unseen.
    """
    event = received.event
    if event.service != tx.service:
        return
    code = await tx.fetchval(
        "SELECT code FROM cases WHERE case_id = $1 AND closed_at IS NULL AND opened_at = $2 FOR UPDATE",
        event.case_id,
        event.opened_at,
    )
    if code is None:
        return
    known = HANDBOOK.get(code)
    if known is None or not known.by_hand:
        log.warning("case_not_closed_by_hand", case_code=code)
        return
    await close_cases(
        tx, case_ids=[event.case_id], outcome="settled-by-operator", explanation=event.explanation, by=event.by
    )


async def current(rows: Rows) -> AsyncIterator[tuple[Event, int, datetime]]:
    """All cases as the events that tell how they stand, for `shared.outbox.republish`."""
    for row in await rows.fetch("SELECT opened, closed, opened_at, closed_at, version FROM cases ORDER BY case_id"):
        closed = row["closed"] is not None
        # The last event's sequence; a reader that lacks the case needs its opening before its closing.
        yield msgspec.json.decode(row["opened"], type=CaseOpened), row["version"] - closed, row["opened_at"]
        if closed:
            yield msgspec.json.decode(row["closed"], type=CaseClosed), row["version"], row["closed_at"]
