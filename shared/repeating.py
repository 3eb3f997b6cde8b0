"""What follows when an attempt at an obligation has ended: pure, so that the rule is read in one place.

The kinds of operation differ in one question only: what to do when nobody knows whether a call had its
effect (platform.md, decision 8). A *guarded* one is read, then repeated: the remote system refuses the
double. An *overwriting* one goes out again at once with the current state, and once more after the quiet
period, when no delayed old one can come any more; the remote system's own read-back proves it. An
*unguarded* one is never repeated blindly: absence counts only when it was read after the quiet period,
and without a way to read, or without a record of the attempt's end, a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

import msgspec

from shared.breaker import blames_account
from shared.errors import Refused, Transient, UnknownOutcome

Step = Literal["call", "read", "settle"]
"""What an attempt does: call the remote system, read what it shows, or only store an outcome that is known
already (its completion hook failed)."""

State = Literal["open", "unknown", "done", "given-up"]

Effect = Literal["guarded", "overwriting", "unguarded"]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The remote system did it: by its answer, by its own read-back, or by what a person saw there."""

    result: Any = None
    """What `perform` or `read` returned, as JSON."""
    by: str | None = None
    """The opaque id of the person who settled it."""


class GivenUp(msgspec.Struct, frozen=True, tag="given-up"):
    """It is not done and will not be: refused for good, or not in time. Its effect is known not to be there."""

    reason: str
    status: int | None = None
    """The HTTP status of the refusal, where it was one."""
    code: str = ""
    """The remote system's own name for the refusal."""
    by: str | None = None


Outcome = Done | GivenUp


@dataclass(frozen=True, slots=True)
class Answered:
    """The call was answered: the effect is there."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Happened:
    """What a `read` hook returns when the remote system shows the effect, or the current state."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Absent:
    """What a `read` hook returns when the remote system shows nothing of it."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The holder left no record of the attempt's end: it crashed, or is stopped and may yet go on."""


@dataclass(frozen=True, slots=True)
class Known:
    """The outcome was stored by an earlier attempt, whose completion hook failed."""

    outcome: Outcome


Ended = Answered | Happened | Absent | Abandoned | Known | Refused | Transient | UnknownOutcome


@dataclass(frozen=True, slots=True)
class Retry:
    """How long and how patiently a failing call is repeated; all in business time.

    The budget is min(`for_seconds`, due time minus `safety_seconds`). At least one attempt is made.
    """

    first_seconds: float = 2.0
    longest_seconds: float = 300.0
    for_seconds: float | None = 86_400.0
    """Since it was owed; `None`: for as long as it takes."""
    safety_seconds: float = 60.0
    until_due: bool = True
    """Whether there is no point in going on after the due time; otherwise that only decides the order."""

    def pause_seconds(self, failures: int) -> float:
        """Doubling from the first pause to the longest."""
        return float(min(self.first_seconds * 2.0 ** min(failures, 40), self.longest_seconds))

    def ends_at(self, since: datetime, due_at: datetime) -> datetime | None:
        """After this no further call is begun; `None`: never."""
        ends = []
        if self.for_seconds is not None:
            ends.append(since + timedelta(seconds=self.for_seconds))
        if self.until_due:
            ends.append(due_at - timedelta(seconds=self.safety_seconds))
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class Manner:
    """What a kind of obligation declares of itself, as far as repeating it is concerned."""

    effect: Effect
    readable: bool
    quiet_seconds: float
    retry: Retry


@dataclass(frozen=True, slots=True)
class Standing:
    """An obligation when its attempt ended."""

    step: Step
    started_at: datetime
    since: datetime
    due_at: datetime
    unsure_at: datetime | None = None
    failures: int = 0
    refusal: GivenUp | None = None
    """A guarded call was refused, and is read to see whether an earlier one is the reason."""


@dataclass(frozen=True, slots=True)
class Next:
    """How the obligation goes on."""

    state: State
    not_before: datetime
    step: Step = "call"
    unsure_at: datetime | None = None
    failures: int = 0
    outcome: Outcome | None = None
    """Of a closed one; of an open one the refusal it is read for, or what is to be stored."""
    reason: str = ""
    waits_for_quiet: bool = False
    """The same goes out once more when the quiet period is over; what replaces it need not wait for that."""


def what_next(manner: Manner, standing: Standing, ended: Ended, now: datetime, spread: float = 1.0) -> Next:
    """The rule. `spread` (0.5 to 1.5) keeps many that failed together from coming back together."""
    match ended:
        case Known():
            return _closed(ended.outcome, now)
        case Answered():
            return _after_answer(manner, standing, ended, now)
        case Happened():
            return _closed(Done(ended.result), now)
        case Absent():
            return _after_absence(manner, standing, now, spread)
        case Abandoned():
            return _after_abandonment(manner, standing, now)
        case Refused() if standing.step == "call" and not blames_account(ended):
            refusal = GivenUp(str(ended), ended.status, ended.code)
            if manner.effect == "guarded" and manner.readable:
                # "Invalid state" may mean that an earlier call of ours, or a person, has done it.
                return Next("open", now, "read", standing.unsure_at, outcome=refusal, reason=str(ended))
            return _closed(refusal, now)
        case UnknownOutcome() if standing.step == "call":
            return _after_silence(manner, standing, str(ended), now, spread)
        case Refused() | UnknownOutcome():
            return _again(manner, standing, str(ended), now, spread, 0.0)
        case Transient():
            return _again(manner, standing, str(ended), now, spread, ended.retry_seconds or 0.0)
        case _:
            assert_never(ended)


def _closed(outcome: Outcome, now: datetime) -> Next:
    state: State = "done" if isinstance(outcome, Done) else "given-up"
    return Next(state, now, outcome=outcome, reason="" if isinstance(outcome, Done) else outcome.reason)


def _quiet_ends(manner: Manner, unsure_at: datetime) -> datetime:
    return unsure_at + timedelta(seconds=manner.quiet_seconds)


def _after_answer(manner: Manner, standing: Standing, ended: Answered, now: datetime) -> Next:
    if manner.effect != "overwriting" or standing.unsure_at is None:
        return _closed(Done(ended.result), now)
    quiet_ends = _quiet_ends(manner, standing.unsure_at)
    if standing.started_at < quiet_ends:
        return Next(
            "open",
            quiet_ends,
            "call",
            standing.unsure_at,
            reason="sent again; once more after the quiet period, since a delayed old one may still come",
            waits_for_quiet=True,
        )
    return Next("open", now, "read", standing.unsure_at, standing.failures, reason="sent after the quiet period")


def _after_absence(manner: Manner, standing: Standing, now: datetime, spread: float) -> Next:
    if standing.refusal is not None:
        return _closed(standing.refusal, now)
    match manner.effect:
        case "overwriting":
            return _again(manner, standing, "the remote system shows another state", now, spread, 0.0, step="call")
        case "unguarded":
            assert standing.unsure_at is not None  # only then it is read
            quiet_ends = _quiet_ends(manner, standing.unsure_at)
            if standing.started_at < quiet_ends:
                reason = "not there yet; absence counts after the quiet period"
                return Next("open", quiet_ends, "read", standing.unsure_at, standing.failures, reason=reason)
    ends = manner.retry.ends_at(standing.since, standing.due_at)
    if ends is not None and now >= ends:
        return _closed(GivenUp("the earlier call had no effect, and the time to repeat it is over"), now)
    return Next("open", now, "call", None, standing.failures, reason="the earlier call had no effect")


def _after_abandonment(manner: Manner, standing: Standing, now: datetime) -> Next:
    reason = "its holder left no record of its end"
    if standing.step != "call":
        return Next("open", now, standing.step, standing.unsure_at, standing.failures, standing.refusal, reason=reason)
    if manner.effect == "unguarded":
        return Next("unknown", now, "call", now, standing.failures, reason=reason)
    return Next("open", now, _look_again(manner), now, standing.failures, reason=reason)


def _after_silence(manner: Manner, standing: Standing, reason: str, now: datetime, spread: float) -> Next:
    if manner.effect == "unguarded" and not manner.readable:
        return Next("unknown", now, "call", now, standing.failures, reason=reason)
    pause = timedelta(seconds=manner.retry.first_seconds * spread)
    return Next("open", now + pause, _look_again(manner), now, standing.failures + 1, reason=reason)


def _look_again(manner: Manner) -> Step:
    return "call" if manner.effect == "overwriting" else "read"


def _again(
    manner: Manner,
    standing: Standing,
    reason: str,
    now: datetime,
    spread: float,
    retry_seconds: float,
    *,
    step: Step | None = None,
) -> Next:
    """The same step later, if there is time; else nothing more is sent."""
    step = step or standing.step
    ends = manner.retry.ends_at(standing.since, standing.due_at)
    if step == "read" and standing.unsure_at is not None:
        # Reading is harmless and better than asking a person: the deadline does not end it.
        longest = manner.retry.for_seconds
        ends = None if longest is None else standing.unsure_at + timedelta(seconds=longest + manner.quiet_seconds)
    at = now + timedelta(seconds=manner.retry.pause_seconds(standing.failures) * spread)
    if ends is not None:
        # The last attempt is made when the budget ends, rather than not at all.
        at = min(at, max(ends, now))
    at = max(at, now + timedelta(seconds=retry_seconds))
    if ends is not None and (now >= ends or at > max(ends, standing.due_at)):
        if standing.refusal is not None:
            return _closed(standing.refusal, now)
        if standing.unsure_at is not None and manner.effect != "overwriting":
            return Next("unknown", now, "call", standing.unsure_at, standing.failures, reason=reason)
        return _closed(GivenUp(f"no time is left to try again: {reason}"), now)
    return Next("open", at, step, standing.unsure_at, standing.failures + 1, standing.refusal, reason=reason)
