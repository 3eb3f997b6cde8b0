"""Errors sorted by what must happen next: try again, give the record up, or stop.

Everything that goes wrong on purpose is one of three kinds. What is none of them is a mistake of
ours: the consumer parks the record's key and wakes the developers (`shared.consumer`).
"""

from __future__ import annotations


class BridgeError(Exception):
    """The root of all errors raised on purpose; its text names the value and the remedy."""


class Transient(BridgeError):
    """The same work succeeds later without us.

    `retry_seconds` is the earliest useful moment to try again, where the other side named one.
    """

    def __init__(self, reason: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_seconds = retry_seconds


class NotLive(Transient):
    """Put off because the shop is only observed: nobody is late, and nothing is wrong."""


class Permanent(BridgeError):
    """No retry can help: the record is to blame.

    `rule` is a short stable code for grouping (`missing-header`, `invalid-value`); `field` is the
    place in the record, as a JSON path or a header's name.
    """

    def __init__(self, reason: str, *, rule: str, field: str = "") -> None:
        super().__init__(reason)
        self.rule = rule
        self.field = field


class Refused(BridgeError):
    """A remote system said no: the same request gets the same answer. Whoever owes it decides what that means.

    `status` is the HTTP status, `code` the remote system's own name for the refusal where it gave one
    (`ORDER_INVALID_STATE`), `operation` the call (`OR21`). `key` is what the settings call the key that was
    refused, with a 401: never the key itself.
    """

    def __init__(self, reason: str, *, operation: str, status: int, code: str = "", key: str = "") -> None:
        super().__init__(reason)
        self.operation = operation
        self.status = status
        self.code = code
        self.key = key


class UnknownOutcome(BridgeError):
    """A request left and no answer came: it may have had its effect, or may yet have it.

    Never repeated blindly: what to do next is said by the operation (`shared.operations.Repeat`).
    """

    def __init__(self, reason: str, *, operation: str) -> None:
        super().__init__(reason)
        self.operation = operation


class Fatal(BridgeError):
    """The service cannot go on; a person must act. The text ends with the remedy."""
