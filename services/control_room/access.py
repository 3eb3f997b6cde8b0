"""Who may come in and who may do what: people, sessions, roles, tokens against forged forms.

People stand in a TOML file that is read again when it changes, so that somebody who leaves is out within
seconds. A session is a signed cookie; it ends after twelve hours, or when its owner's password or role
changes. On topics a person is an opaque id; names are shown to people who are signed in and nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from itsdangerous import BadSignature, URLSafeTimedSerializer

from shared.clock import monotonic
from shared.errors import Fatal

Role = Literal["viewer", "operations", "finance", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
Act = Literal["note", "close", "map", "map-account", "answer", "hold", "settle", "rule"]

MAY: Final[Mapping[Act, frozenset[Role]]] = {
    "note": frozenset({"operations", "finance", "admin"}),
    "close": frozenset({"operations", "finance", "admin"}),
    "map": frozenset({"operations", "admin"}),
    "map-account": frozenset({"operations", "finance", "admin"}),
    "answer": frozenset({"operations", "admin"}),
    "hold": frozenset({"operations", "admin"}),
    "settle": frozenset({"operations", "finance", "admin"}),
    "rule": frozenset({"admin"}),
}
"""Who may do what; everybody who is signed in may look."""

SESSION_SECONDS: Final = 12 * 3_600
_FAILURES: Final = 8
_FAILURES_SECONDS: Final = 300.0

_hasher = PasswordHasher()
_NOBODY: Final = _hasher.hash(secrets.token_urlsafe())
"""Verified when a login is unknown, so that the answer takes as long as for a known one."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may sign in."""

    id: str
    """Opaque; all that topics say of a person."""
    login: str
    name: str
    role: Role
    password: str
    """Its argon2 hash."""
    zone: ZoneInfo

    def may(self, act: Act) -> bool:
        """Whether the role allows it."""
        return self.role in MAY[act]

    @property
    def mark(self) -> str:
        """Changes with password and role, and ends the sessions from before."""
        return hashlib.sha256(f"{self.password}\0{self.role}".encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        """Without the hash and the name: it may end up in a log."""
        return f"Person(id={self.id!r}, role={self.role!r})"


def hash_password(password: str) -> str:
    """What stands in the file for a password.

    Raises:
        ValueError: too short to be one.
    """
    if len(password) < 8:
        raise ValueError("a password has at least 8 characters")
    return _hasher.hash(password)


def person_as_toml(login: str, name: str, role: Role, password: str, *, person_id: str | None = None) -> str:
    """One entry of the people's file."""
    fields = {
        "id": person_id or f"u-{secrets.token_hex(4)}",
        "login": login,
        "name": name,
        "role": role,
        "password": hash_password(password),
    }
    # A JSON string is a TOML basic string.
    return "[[people]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())


class People:
    """The people's file, as it is now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_at: int | None = None
        self._by_id: Mapping[str, Person] = {}
        self._failed: dict[str, list[float]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it changed.

        Raises:
            Fatal: it cannot be read, or holds a mistake; the text names it.
        """
        try:
            changed_at = self.path.stat().st_mtime_ns
            if changed_at == self._read_at:
                return
            found = read_people(self.path.read_text("utf-8"))
        except OSError as error:
            raise Fatal(
                f"{self.path}: {error.strerror}; make it with `control-room add-person {self.path} LOGIN NAME ROLE`"
            ) from error
        except ValueError as error:
            raise Fatal(f"{self.path}: {error}") from error
        self._by_id = {person.id: person for person in found}
        self._read_at = changed_at

    def by_id(self, person_id: str) -> Person | None:
        """A person by the id that events carry."""
        return self._by_id.get(person_id)

    def name_of(self, person_id: str | None) -> str:
        """A person's name for the page; somebody who left is known by the id."""
        person = self._by_id.get(person_id or "")
        return person.name if person else person_id or ""

    def sign_in(self, login: str, password: str) -> Person | None:
        """The person, if the password is right. Slow on purpose: call it in a thread."""
        person = next((p for p in self._by_id.values() if p.login == login), None)
        try:
            _hasher.verify(person.password if person else _NOBODY, password)
        except (VerificationError, InvalidHashError):
            return None
        return person

    def is_barred(self, login: str) -> bool:
        """Whether this login failed too often of late to be tried again now."""
        recent = [at for at in self._failed.get(login, ()) if monotonic() - at < _FAILURES_SECONDS]
        if recent:
            self._failed[login] = recent
        else:
            self._failed.pop(login, None)
        return len(recent) >= _FAILURES

    def note_failure(self, login: str) -> None:
        """Count a wrong password."""
        if len(self._failed) > 10_000:
            self._failed.clear()  # Made-up logins must not fill the memory.
        self._failed.setdefault(login, []).append(monotonic())


def read_people(text: str) -> list[Person]:
    """The people of a file.

    Raises:
        ValueError: no TOML, or an entry that lacks or mistakes something.
    """
    people = []
    for number, entry in enumerate(tomllib.loads(text).get("people", ()), 1):
        where = f"entry {number} of [[people]]"
        missing = [name for name in ("id", "login", "name", "role", "password") if not entry.get(name)]
        if missing:
            raise ValueError(f"{where} has no {', '.join(missing)}")
        if entry["role"] not in ROLES:
            raise ValueError(f"{where}: role {entry['role']!r} is none of {', '.join(ROLES)}")
        if not str(entry["password"]).startswith("$argon2"):
            raise ValueError(f"{where}: password is no argon2 hash; make one with `control-room add-person`")
        try:
            zone = ZoneInfo(entry.get("time_zone", "UTC"))
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{where}: time_zone {entry['time_zone']!r} is unknown; e.g. Europe/Lisbon") from None
        role = cast(Role, entry["role"])
        people.append(Person(entry["id"], entry["login"], entry["name"], role, entry["password"], zone))
    for name in ("id", "login"):
        values = [getattr(person, name) for person in people]
        if len(set(values)) < len(values):
            raise ValueError(f"two people have the same {name}")
    return people


@dataclass(frozen=True, slots=True)
class Session:
    """What a cookie says once its signature is proven."""

    token: str
    """Every form carries it, and no other site knows it."""
    person_id: str | None = None
    mark: str | None = None

    def is_form_token(self, given: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(self.token.encode(), given.encode())


@dataclass(slots=True)
class Sessions:
    """Signs and reads sessions."""

    secret: str
    _signer: URLSafeTimedSerializer = field(init=False)

    def __post_init__(self) -> None:
        self._signer = URLSafeTimedSerializer(self.secret, salt="control-room session")

    def new(self, person: Person | None = None) -> Session:
        """A session with a fresh token."""
        token = secrets.token_urlsafe(24)
        return Session(token, person.id, person.mark) if person else Session(token)

    def write(self, session: Session) -> str:
        """The cookie's value."""
        return str(self._signer.dumps([session.token, session.person_id, session.mark]))

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie, unless it is forged, too old or none."""
        if not cookie:
            return None
        try:
            token, person_id, mark = self._signer.loads(cookie, max_age=SESSION_SECONDS)
        except (BadSignature, ValueError, TypeError):
            return None
        return Session(token, person_id, mark)
