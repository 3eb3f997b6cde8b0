# ruff: noqa (frozen as it was released)
"""Dead letters: records that no retry can save. The bytes stay in the service's own tables."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from .base import Event
from .fields import Moment, Operator, OurCode, Text
from .keys import record_key


class DeadLetterEvent(Event, frozen=True, kw_only=True):
    """One record that one consumer gave up; another consumer may have read it well."""

    topic: Annotated[str, Meta(min_length=1, max_length=249)]
    partition: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    consumer: Annotated[OurCode, Meta(description="The service that read it.")]

    @property
    def key(self) -> str:
        return record_key(self.topic, self.partition, self.offset)


class RecordDeadLettered(DeadLetterEvent, frozen=True, kw_only=True):
    """A record was given up, with the reason; developers are woken."""

    TYPE: ClassVar[str] = "record.dead-lettered.v1"

    reason: Annotated[Text, Meta(description="What is wrong and what to do, without the record's content.")]
    rule: Annotated[str, Meta(min_length=1, max_length=64, description="Stable code of what was broken.")]
    field: Annotated[str, Meta(max_length=500, description="Header or JSON path, empty when none.")] = ""
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", description="Of the value's bytes.")]
    size_bytes: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    event_id: Annotated[str, Meta(max_length=1024, description="ce_id, where it could be read.")] | None = None
    event_type: Annotated[str, Meta(max_length=255)] | None = None
    dead_lettered_at: Moment


class DeadLetterReplayed(DeadLetterEvent, frozen=True, kw_only=True):
    """The record went back to its consumer and was handled this time."""

    TYPE: ClassVar[str] = "dead-letter.replayed.v1"

    by: Operator
    replayed_at: Moment


class DeadLetterDiscarded(DeadLetterEvent, frozen=True, kw_only=True):
    """A person decided that the record is not needed; its bytes are erased."""

    TYPE: ClassVar[str] = "dead-letter.discarded.v1"

    by: Operator
    reason: Text
    discarded_at: Moment
