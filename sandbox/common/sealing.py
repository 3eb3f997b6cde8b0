"""Tokens that carry state to the caller and back: only those that a sandbox gave are opened again."""

from __future__ import annotations

import base64
import hashlib

SIGNATURE_BYTES = 8


def sealed(content: bytes) -> str:
    """A token for URLs and JSON; the same content makes the same token."""
    return base64.urlsafe_b64encode(_signature(content) + content).decode()


def opened(token: str) -> bytes:
    """The content of a token. Raises ValueError for one that was made up or changed."""
    signed = base64.urlsafe_b64decode(token)
    content = signed[SIGNATURE_BYTES:]
    if signed[:SIGNATURE_BYTES] != _signature(content):
        raise ValueError("not a token of this sandbox")
    return content


def _signature(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=SIGNATURE_BYTES, key=b"sandbox").digest()
