"""Secrets: the settings hold references to them, never the secrets themselves.

`env:NAME` is a variable of the environment, `file:/path` a file as Kubernetes or a password store mounts
it. The content is read at every use, so that a rotated secret is used by the next call without a restart.
Replace a file by renaming the new one over it, as Kubernetes does: no reader then meets half a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from shared.errors import Fatal

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")


class Secret:
    """One reference; `value()` is the secret as it is now. Neither `str` nor `repr` show it."""

    __slots__ = ("_environment", "_last", "reference")

    def __init__(self, reference: str, environment: Mapping[str, str]) -> None:
        self.reference = reference
        self._environment = environment
        self._last: str | None = None

    @classmethod
    def parse(cls, text: object, environment: Mapping[str, str]) -> Self:
        """A reference as the settings hold it.

        Raises:
            ValueError: it is none; what was found may be the secret itself and is not repeated.
        """
        if not isinstance(text, str) or _REFERENCE.fullmatch(text) is None:
            raise ValueError(
                "must be a reference, since no secret stands in the file itself (this one is not repeated)"
            )
        return cls(text, environment)

    def value(self) -> str:
        """The secret as it is now.

        While its place is empty or not to be read, for example in the middle of a rotation, the last known
        value stays in use: the remote system says when that is no longer valid.

        Raises:
            Fatal: it was never there.
        """
        found, remedy = self._read()
        if found:
            self._last = found
        elif self._last is None:
            raise Fatal(f"the secret {self.reference} is missing: {remedy}")
        return self._last

    def remedy(self) -> str | None:
        """What to do so that it is found; None where it is."""
        found, remedy = self._read()
        return None if found else remedy

    def _read(self) -> tuple[str, str]:
        kind, _, place = self.reference.partition(":")
        if kind == "env":
            return self._environment.get(place, "").strip(), f"set the variable {place}"
        try:
            return Path(place).read_text("utf-8").strip(), "the file is empty"
        except OSError as error:
            return "", f"{error.strerror}; name a file that this user can read"
        except UnicodeDecodeError:
            return "", "the file holds no text"

    def __repr__(self) -> str:
        return f"Secret({self.reference!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)
