"""Misbehaviour on demand: which fault a call meets, decided by rules, counts and a seeded die.

Promise: with the same seed, the same rules and the same calls, the same calls are hit. A rule without an
operation hits every call; the first matching rule wins. What a fault does to the wire is in `server.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

Kind = Literal[
    "latency",  # wait `seconds`, then work as usual
    "status",  # answer `status` with `body` and do nothing
    "status_after_effect",  # do it, then answer `status` with `body`
    "cut_before_effect",  # close the connection and do nothing
    "cut_after_effect",  # do it, then close the connection without an answer
    "cut_in_body",  # do it, announce the whole answer, send half of it and close
    "late_effect",  # close the connection after `hold_seconds`; do it `seconds` later by the sandbox's clock
    "slow_body",  # do it, send the answer in small pieces over `seconds`
    "garbage",  # do it, answer 200 with `body` that is not what was promised
    "duplicate_rows",  # repeat the last row of the page at its front
    "reorder_rows",  # turn the rows of the page round
    "set_value",  # write `value` at `path` (dots; * for every element), for example orders.*.order_state
    "remove_value",  # take the value at `path` out of the answer
]
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_TEXT = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
KINDS: tuple[str, ...] = Kind.__args__  # type: ignore[attr-defined]


class FaultRule(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=False):
    """One rule: `count` calls are hit (None = without end) after the first `skip` matching ones, with `probability`."""

    kind: Kind
    operation: str | None = None
    """Operation code such as OR11, or None for every call."""
    where: dict[str, str] = {}
    """Further conditions on the call's tags, such as {"marketplace": "alpha", "shop": "2001"}."""
    probability: float = 1.0
    count: int | None = None
    skip: int = 0
    seconds: float = 1.0
    hold_seconds: float = 0.0
    status: int = 500
    body: str | None = None
    headers: dict[str, str] = {}
    path: str | None = None
    value: Any = None
    id: str = ""
    hits: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability {self.probability} is outside 0 … 1")
        if (self.count is not None and self.count < 0) or self.skip < 0:
            raise ValueError("count and skip cannot be negative")
        if not 0 <= self.seconds <= 3600 or not 0 <= self.hold_seconds <= 3600:
            raise ValueError("seconds and hold_seconds lie between 0 and 3600")
        if not 200 <= self.status <= 599:
            raise ValueError(f"status {self.status} is outside 200 … 599")
        if self.kind in ("set_value", "remove_value") and not self.path:
            raise ValueError(f"a fault of kind {self.kind} needs a path, for example orders.*.order_state")
        for name, text in self.headers.items():
            if not HEADER_NAME.fullmatch(name) or not HEADER_TEXT.fullmatch(text):
                raise ValueError(f"{name!r}: {text!r} cannot be sent as a header")


class FaultPlan:
    """The rules in force, and the die."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(f"faults-{seed}")
        self._rules: dict[str, FaultRule] = {}
        self._seen: dict[str, int] = {}
        self._count = 0

    def add(self, rule: FaultRule) -> FaultRule:
        """Takes a rule in and gives it its id."""
        self._count += 1
        rule.id = f"fault-{self._count}"
        rule.hits = 0
        self._rules[rule.id] = rule
        self._seen[rule.id] = 0
        return rule

    def remove(self, rule_id: str) -> bool:
        self._seen.pop(rule_id, None)
        return self._rules.pop(rule_id, None) is not None

    def clear(self) -> int:
        count = len(self._rules)
        self._rules.clear()
        self._seen.clear()
        return count

    def rules(self) -> list[FaultRule]:
        return list(self._rules.values())

    def pick(self, operation: str, tags: Mapping[str, str]) -> FaultRule | None:
        """The fault this call meets, if any; counts it."""
        for rule in self._rules.values():
            if rule.operation is not None and rule.operation != operation:
                continue
            if any(tags.get(name) != wanted for name, wanted in rule.where.items()):
                continue
            if rule.count is not None and rule.hits >= rule.count:
                continue
            self._seen[rule.id] += 1
            if self._seen[rule.id] <= rule.skip:
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            rule.hits += 1
            return rule
        return None


def rewritten(rule: FaultRule, payload: Any) -> Any:
    """The answer's JSON as the rule wants it; other kinds leave it alone. The payload may be changed in place."""
    if rule.kind == "duplicate_rows":
        return _with_rows(payload, lambda rows: [rows[-1], *rows] if rows else rows)
    if rule.kind == "reorder_rows":
        return _with_rows(payload, lambda rows: list(reversed(rows)))
    if rule.kind == "set_value" and rule.path:
        for holder, key in _places(payload, rule.path.split("."), create=True):
            holder[key] = rule.value
    if rule.kind == "remove_value" and rule.path:
        for holder, key in reversed(list(_places(payload, rule.path.split("."), create=False))):
            del holder[key]
    return payload


def _with_rows(payload: Any, change: Any) -> Any:
    """Applies `change` to the page's rows: the payload itself if it is a list, else its first list."""
    if isinstance(payload, list):
        return change(payload)
    if isinstance(payload, dict):
        for name, value in payload.items():
            if isinstance(value, list):
                payload[name] = change(value)
                break
    return payload


def _places(node: Any, steps: list[str], *, create: bool) -> Iterable[tuple[Any, Any]]:
    """Every (holder, key) a dotted path names."""
    step, rest = steps[0], steps[1:]
    keys: list[Any]
    if isinstance(node, list):
        keys = (
            list(range(len(node))) if step == "*" else [int(step)] if step.isdecimal() and int(step) < len(node) else []
        )
    elif isinstance(node, dict):
        keys = list(node) if step == "*" else [step] if step in node or (create and not rest) else []
    else:
        keys = []
    for key in keys:
        if rest:
            yield from _places(node[key], rest, create=create)
        else:
            yield node, key
