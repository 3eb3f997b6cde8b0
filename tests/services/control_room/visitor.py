"""Somebody with a browser, as far as a test needs one: follows links, fills in forms that are really there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from services.control_room.pages import Room
from tests.kit.pages import PASSWORD


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
