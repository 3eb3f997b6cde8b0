"""Reads TOML tables into Structs and names every mistake, not only the first.

A value that is refused is replaced by its default or its example, so that reading goes on and the settings can still
be looked at as a whole; whoever looks leaves out what concerns a refused key.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import msgspec
from msgspec import NODEFAULT, Meta, Struct

from shared.configuration import CollectorUrl, HttpUrl, Mistake, PostgresUrl, Server, key_of, meant
from shared.secrets import Secret

S = TypeVar("S", bound=Struct)

_PARSED = (HttpUrl, CollectorUrl, PostgresUrl, Server)
_REFUSED: Any = object()
_SECRET_WORDS = ("secret", "password", "token", "key")


@lru_cache
def hints_of(struct: type[Struct]) -> Mapping[str, Any]:
    """The fields' types with what is said about them."""
    return get_type_hints(struct, include_extras=True)


def bare(hint: Any) -> Any:
    """The type without what is said about it, and without its `None`."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [arm for arm in get_args(hint) if arm is not type(None)]
        return bare(hint)
    return hint


def metas_of(hint: Any) -> list[Meta]:
    """What is said about a field: its own words last."""
    return [note for note in get_args(hint)[1:] if isinstance(note, Meta)] if get_origin(hint) is Annotated else []


def example_of(hint: Any) -> Any:
    """The example of a field."""
    return next(meta.examples[0] for meta in reversed(metas_of(hint)) if meta.examples)


def description_of(hint: Any) -> str:
    """The meaning of a field."""
    return next((meta.description for meta in reversed(metas_of(hint)) if meta.description), "")


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case date():  # a datetime too
            return value.isoformat()
        case Mapping():
            return "{ " + ", ".join(f"{key_of(k)} = {literal(v)}" for k, v in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(literal, value)) + "]"
        case int() | float():
            return str(value)
        case _:
            return json.dumps(str(value), ensure_ascii=False)


@dataclass
class TomlReader:
    """One reading of one file: what was wrong, and the secrets that it refers to."""

    environment: Mapping[str, str]
    shown: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """How a key is called where it did not come from the file: its variable."""
    mistakes: list[Mistake] = field(default_factory=list)
    secrets: list[tuple[str, Secret]] = field(default_factory=list)

    def refuse(self, path: tuple[str, ...], found: str, reason: str, example: str = "") -> None:
        """Note one mistake."""
        self.mistakes.append(Mistake(self.shown.get(path) or key_of(*path), found, reason, example))

    def table(self, struct: type[S], table: object, path: tuple[str, ...]) -> S:
        """The table as a Struct; what is wrong with it is noted."""
        if not isinstance(table, dict):
            self.refuse(path, literal(table), "is no table", f"[{key_of(*path)}]")
            table = {}
        fields = {f.name: f for f in msgspec.structs.fields(struct)}
        for name in table.keys() - fields.keys():
            self._refuse_unknown((*path, name), table[name], fields)
        values: dict[str, Any] = {}
        for name, about in fields.items():
            hint, place = hints_of(struct)[name], (*path, name)
            has_default = about.default is not NODEFAULT or about.default_factory is not NODEFAULT
            if name in table:
                value = self.value(hint, table[name], place)
                if value is not _REFUSED:
                    values[name] = value
                elif not has_default:
                    values[name] = self._instead(hint)
            elif has_default:
                continue
            elif isinstance(bare(hint), type) and issubclass(bare(hint), Struct):
                values[name] = self.table(bare(hint), {}, place)
            else:
                values[name] = self._instead(hint)
                if get_origin(bare(hint)) is dict:
                    self.refuse(place, "", "is missing", f"[{key_of(*place, str(example_of(hint)))}]")
                else:
                    self.refuse(place, "", "is missing", self._example(hint, place))
        return struct(**values)

    def value(self, hint: Any, found: object, path: tuple[str, ...]) -> Any:
        """One value, of whatever type."""
        kind = bare(hint)
        if isinstance(kind, type) and issubclass(kind, Struct):
            return self.table(kind, found, path)
        if get_origin(kind) is dict and isinstance(found, dict):
            key_hint, value_hint = get_args(kind)
            if any(meta.min_length for meta in metas_of(hint)) and not found:
                self.refuse(path, "", "is empty", f"[{key_of(*path, str(example_of(hint)))}]")
            read = {
                name: self.value(self._with_notes(value_hint, hint, name), item, (*path, name))
                for name, item in found.items()
                if self._key_is_fine(key_hint, name, path)
            }
            return {name: value for name, value in read.items() if value is not _REFUSED}
        try:
            value = msgspec.convert(found, hint, dec_hook=self._decode)
        except msgspec.ValidationError as error:
            self.refuse(
                path, self._shown(kind, found, path), self._reason(error, kind, found), self._example(hint, path)
            )
            return _REFUSED
        if isinstance(value, Secret):
            self.secrets.append((self.shown.get(path) or key_of(*path), value))
        return value

    def _with_notes(self, value_hint: Any, table_hint: Any, name: str) -> Any:
        """A table's values take their example from the table's, where they have none themselves."""
        if any(meta.examples for meta in metas_of(value_hint)) or bare(value_hint) is not value_hint:
            return value_hint
        example = example_of(table_hint)
        if not isinstance(example, dict):
            return value_hint
        return Annotated[value_hint, Meta(examples=[example.get(name, next(iter(example.values())))])]

    def _key_is_fine(self, hint: Any, name: str, path: tuple[str, ...]) -> bool:
        try:
            msgspec.convert(name, hint)
        except msgspec.ValidationError:
            known = get_args(bare(hint))
            words = description_of(hint) or "letters, digits, dots, dashes and underscores"
            reason = f"unknown key: {meant(name, known)}" if known else f"is no name for this table: {words}"
            self.refuse((*path, name), "", reason)
            return False
        return True

    def _refuse_unknown(self, path: tuple[str, ...], found: object, known: Mapping[str, object]) -> None:
        # Nobody knows what it is, so it may be a secret: it is not repeated.
        reason = f"unknown key: {meant(path[-1], known)}"
        if isinstance(found, str) and any(word in path[-1].lower() for word in _SECRET_WORDS):
            reason += "; if it is a secret, take it out of the file"
        self.refuse(path, "", reason)

    def _decode(self, kind: type, found: object) -> Any:
        if kind is Secret:
            return Secret.parse(found, self.environment)
        if kind in _PARSED:
            return kind.parse(found)
        if kind is ZoneInfo:
            try:
                return ZoneInfo(str(found))
            except (KeyError, ValueError, OSError) as error:
                raise ValueError("is no time zone that is known here") from error
        raise NotImplementedError(kind)

    def _reason(self, error: msgspec.ValidationError, kind: Any, found: object) -> str:
        if get_origin(kind) is Literal:
            choices = get_args(kind)
            near = get_close_matches(str(found), choices, n=1)
            return f"choose one of {', '.join(choices)}" + (f"; did you mean {near[0]}?" if near else "")
        text, _, place = str(error).partition(" - at `$")
        return text[:1].lower() + text[1:].replace("`", "") + (f" (at {place.rstrip('`')})" if place else "")

    def _shown(self, kind: Any, found: object, path: tuple[str, ...]) -> str:
        if kind is Secret or (kind in _PARSED and "@" in str(found)):
            return ""
        return literal(found)

    def _example(self, hint: Any, path: tuple[str, ...]) -> str:
        if variable := self.shown.get(path):
            example = example_of(hint)
            return f"{variable}={','.join(example) if isinstance(example, list) else example}"
        return f"{key_of(path[-1])} = {literal(example_of(hint))}"

    def _instead(self, hint: Any) -> Any:
        """What stands in for a value that is required and refused."""
        if get_origin(bare(hint)) in (dict, tuple):
            return get_origin(bare(hint))()
        return msgspec.convert(example_of(hint), hint, dec_hook=self._decode)
