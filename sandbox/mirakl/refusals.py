"""How the platform says no. The codes are the published ones where there are any; the words are ours."""

from __future__ import annotations

from typing import Any

from sandbox.common.control import Refusal
from sandbox.common.server import Answer


class Refused(Refusal):
    """A call that is not carried out, with the code the documentation names for it, if any."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(status, message)
        self.code = code


def bad(message: str, code: str | None = None) -> Refused:
    return Refused(400, message, code)


def missing(message: str, code: str | None = None) -> Refused:
    return Refused(404, message, code)


def envelope(refusal: Refused, style: str) -> Answer:
    """The answer to a refused call; `style` is `behaviour.error_envelope`."""
    body: dict[str, Any] = {"status": refusal.status, "message": refusal.message}
    if refusal.code is not None:
        if style == "code":
            body["code"] = refusal.code
        elif style == "errors":
            body["errors"] = [{"code": refusal.code, "message": refusal.message}]
        else:
            body["message"] = f"{refusal.code}: {refusal.message}"
    return Answer(refusal.status, body)
