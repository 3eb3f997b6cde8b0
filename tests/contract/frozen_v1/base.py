# ruff: noqa (frozen as it was released)
"""What every event is: a fact in the past tense, never refused, tolerant to read and strict to write.

A new field has a default; a field is never removed, renamed or narrowed, and a new meaning gets a
new wire type (`.v2`) beside the old one. `tests/contract` holds us to that by running old readers on
new payloads and the other way round.
"""

from __future__ import annotations

import re
from typing import ClassVar

from msgspec import Struct

SCHEMA_BASE = "urn:sfcc-mirakl-bridge:schema:"

_WIRE_TYPE = re.compile(r"([a-z]+(?:-[a-z]+)*(?:\.[a-z]+(?:-[a-z]+)*)+)\.v([1-9][0-9]{0,3})")


class Event(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A fact on a topic. Readers ignore fields they do not know."""

    TYPE: ClassVar[str]
    """The wire type, CloudEvents `type`: subject, what happened, version (`order.accepted.v1`)."""

    @property
    def key(self) -> str:
        """The Kafka key and the CloudEvents subject: everything about one key stays in order."""
        raise NotImplementedError(f"{type(self).__name__} names no key")


def schema_uri(event_type: type[Event]) -> str:
    """The CloudEvents `dataschema` of the event, and the `$id` of its file under `schemas/`."""
    return SCHEMA_BASE + event_type.TYPE


def subject_of(wire_type: str) -> tuple[str, int]:
    """The family and the version of a wire type: `order.accepted.v2` is `("order.accepted", 2)`.

    With it a consumer tells an unknown type (skipped) from an unknown version of a type it handles
    (the key waits for the new code). A type that does not follow our naming is its own family in
    version 0: nobody here can handle it in any version.
    """
    match = _WIRE_TYPE.fullmatch(wire_type)
    return (match[1], int(match[2])) if match else (wire_type, 0)
