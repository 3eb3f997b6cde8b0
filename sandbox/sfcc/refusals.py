"""Refusals: the errors the sandbox answers with, each in the body its API family documents.

Families differ: SCAPI answers `application/problem+json` (type, title, detail), Omnichannel Inventory (OCI) a body of
its own (`errorCode`, `message`), the two token issuers OAuth's `error` and `error_description`, WebDAV plain text.
A rule raises `Refusal`; only the HTTP layer turns it into bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ERROR_BASE", "Family", "Refusal", "body_of", "content_type_of"]

ERROR_BASE = "https://api.commercecloud.salesforce.com/documentation/error/v1/errors/"

Family = str  # scapi | oci | slas | oauth | webdav


@dataclass(slots=True)
class Refusal(Exception):
    """A call that is refused. `slug` is SCAPI's error slug, OCI's errorCode or OAuth's error."""

    status: int
    slug: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status} {self.slug}: {self.detail}"


def _title(slug: str) -> str:
    return " ".join(word.capitalize() for word in slug.split("-"))


def content_type_of(family: Family, refusal: Refusal) -> str:
    """Problem documents for SCAPI, SLAS and OCI's 429; plain JSON elsewhere (SLAS OpenAPI, trusted-system token,
    400).
    """
    if family in ("scapi", "slas") or (family == "oci" and refusal.status == 429):
        return "application/problem+json"
    return "text/plain" if family == "webdav" else "application/json"


def body_of(family: Family, refusal: Refusal) -> dict[str, Any] | str:
    """The body in the family's own form."""
    if family == "webdav":
        return refusal.detail
    if family in ("oauth", "slas"):
        return {"error": refusal.slug, "error_description": refusal.detail}
    if family == "oci" and refusal.status != 429:
        return {"type": "about:blank", "errorCode": refusal.slug, "message": refusal.detail, **refusal.extra}
    return {
        "title": _title(refusal.slug),
        "type": ERROR_BASE + refusal.slug,
        "detail": refusal.detail,
        **refusal.extra,
    }
