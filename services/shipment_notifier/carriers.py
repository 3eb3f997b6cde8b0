"""The warehouse's word for a carrier in the marketplace's: pure.

What a person set in the table of carriers holds first. Then names are compared as people write them, whatever their
case and spaces: the list's standard codes, its own codes, its labels (SH21). Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Final

from msgspec import Struct

from services.shipment_notifier.model import Told
from shared.mappings import Carrier, spoken

NO_CARRIER: Final = "(none)"
"""Stands in the table for a parcel whose warehouse names no carrier: map it to the one that is always meant."""
_PLACE: Final = "{trackingId}"
_LONGEST_FACT: Final = 4_000


class Listed(Struct, frozen=True, kw_only=True):
    """A carrier of the marketplace's list."""

    code: str
    label: str
    standard_code: str | None = None
    tracking_url: str | None = None


class Found(Struct, frozen=True, kw_only=True):
    """The carrier is known: on the list by its code, or by name beside it."""

    code: str | None = None
    name: str | None = None
    tracking_url: str | None = None


class Unknown(Struct, frozen=True, kw_only=True):
    """Nobody knows it; `gone` is the code that it was mapped to, and which the list has no more."""

    gone: str | None = None


def word(carrier: str | None) -> str:
    """A carrier as it stands in the table."""
    return spoken(carrier or "") or NO_CARRIER


def resolve(left: str, mapped: Carrier | None, listed: Sequence[Listed]) -> Found | Unknown:
    """The carrier for a word of the warehouse, as `word` wrote it.

    A name that fits two carriers of the list fits none.
    """
    if mapped is not None:
        if not mapped.registered:
            return Found(name=mapped.right, tracking_url=mapped.tracking_url)
        there = any(one.code == mapped.right for one in listed)
        return Found(code=mapped.right) if there else Unknown(gone=mapped.right)
    for names in (
        {one.code: one.standard_code for one in listed},
        {one.code: one.code for one in listed},
        {one.code: one.label for one in listed},
    ):
        fitting = [code for code, name in names.items() if name and spoken(name) == left]
        if len(fitting) == 1:
            return Found(code=fitting[0])
    return Unknown()


def told(found: Found, tracking_number: str | None, tracking_url: str | None) -> Told:
    """What the marketplace is told; it makes the link of a carrier on its list by itself."""
    if found.code is not None:
        return Told(carrier_code=found.code, tracking_number=tracking_number)
    template = found.tracking_url
    if not tracking_url and template and tracking_number:
        tracking_url = template.replace(_PLACE, tracking_number)
    return Told(carrier_name=found.name, tracking_number=tracking_number, tracking_url=tracking_url)


def valid(left: str, listed: Iterable[Listed]) -> str:
    """The list for a person who maps `left`, one a line, the likeliest first, as far as a case's fact can hold."""

    def unlikeness(one: Listed) -> float:
        names = (one.label, one.code, one.standard_code or "")
        return -max(SequenceMatcher(None, left, spoken(name)).ratio() for name in names)

    text = ""
    for one in sorted(listed, key=lambda one: (unlikeness(one), one.code)):
        line = f"{one.code} ({one.label})\n"
        if len(text) + len(line) > _LONGEST_FACT:
            break
        text += line
    return text


def changes(before: Sequence[Listed], after: Sequence[Listed]) -> str:
    """What a person reads of two readings of the list: one change a line."""
    old, new = ({one.code: one for one in listed} for listed in (before, after))
    lines = [f"gone: {code} ({old[code].label})" for code in sorted(old.keys() - new.keys())]
    lines += [f"new: {code} ({new[code].label})" for code in sorted(new.keys() - old.keys())]
    lines += [
        f"changed: {code} ({old[code].label}, now {new[code].label})"
        for code in sorted(old.keys() & new.keys())
        if old[code] != new[code]
    ]
    return "\n".join(lines)[:_LONGEST_FACT]
