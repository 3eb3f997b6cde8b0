"""Somebody with a browser, as far as a test needs one: follows links, fills in forms that are really there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from services.control_room.pages import Room
from shared.codec import decode
from shared.envelope import from_record
from shared.events.control import MappingSet
from shared.outbox import decode_headers
from tests.kit.flow import FixedClock
from tests.kit.pages import PASSWORD, make_room, people_file, room_database


@dataclass
class Form:
    """A form of a page: where it goes, and what it would send as it stands."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self.posts = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.posts = given.get("method") == "post"
            self.found += [Form(given["action"])] * self.posts
        elif tag == "input" and self.posts and "name" in given and given.get("type") != "radio":
            self.found[-1].fields[given["name"]] = given.get("value", "")


def forms_of(html: str) -> dict[str, Form]:
    """The forms of a page that change something, by where they go."""
    parser = _Forms()
    parser.feed(html)
    return {form.action: form for form in parser.found}


@dataclass
class Visitor:
    """One session."""

    client: TestClient[Any, Any]

    async def get(self, path: str, status: int = 200) -> str:
        """A page's text."""
        answer = await self.client.get(path, allow_redirects=False)
        text = await answer.text()
        assert answer.status == status, (path, answer.status, text)
        return text

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> ClientResponse:
        """Send fields as they are."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, data=fields, headers=named, allow_redirects=False)

    async def fill_in(self, page: str, action: str, **fields: str) -> str:
        """Fill in a form of a page and send it; the page it leads back to."""
        form = forms_of(await self.get(page))[action]
        answer = await self.post(action, form.fields | fields)
        assert answer.status == 303, await answer.text()
        return await self.get(answer.headers["Location"])

    async def sign_in(self, login: str, password: str = PASSWORD) -> ClientResponse:
        """Through the door."""
        form = forms_of(await self.get("/sign-in"))["/sign-in"]
        return await self.post("/sign-in", form.fields | {"login": login, "password": password})


@asynccontextmanager
async def visit(room: Room, login: str | None = None) -> AsyncIterator[Visitor]:
    """A fresh browser at the room's door, or behind it."""
    async with TestClient(TestServer(room.app())) as client:
        visitor = Visitor(client)
        if login is not None:
            answer = await visitor.sign_in(login)
            assert answer.status == 303
        yield visitor


Mapper = Callable[[str, str, str, str], Awaitable[MappingSet]]


@asynccontextmanager
async def mapping_page(database_url: str, people: Path, login: str = "olga") -> AsyncIterator[Mapper]:
    """Fill in the page of a mapping table: marketplace, kind, left and right to the event that it published."""
    async with room_database(database_url) as database:
        async with visit(make_room(database, people_file(people), FixedClock()), login) as visitor:

            async def set_line(marketplace: str, kind: str, left: str, right: str) -> MappingSet:
                page = f"/mappings/{kind}"
                said = await visitor.fill_in(page, page, marketplace=marketplace, left=left, right=right)
                assert f"{left} is mapped to {right}" in said
                row = await database.fetchrow("SELECT headers, value FROM outbox ORDER BY position DESC LIMIT 1")
                assert row is not None
                envelope, value = from_record(decode_headers(row["headers"]), row["value"])
                event = decode(envelope.type, value)
                assert isinstance(event, MappingSet)
                return event

            yield set_line
