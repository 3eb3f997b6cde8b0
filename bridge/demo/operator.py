"""A scripted person: signs in to the control room, reads the open cases, and puts right what it knows how to.

It uses the pages' own links and forms, as a browser would, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from time import monotonic
from typing import Final

import aiohttp
from yarl import URL

from bridge.demo.world import OPERATOR, PASSWORD
from shared.errors import Transient


@dataclass(slots=True)
class Form:
    """A form of a page: where it goes, and what stands in its fields."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """The links and forms of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forms: list[Form] = []
        self._select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        match tag:
            case "a" if "href" in named:
                self.links.append(named["href"])
            case "form":
                self.forms.append(Form(named.get("action", "")))
            case "input" if self.forms and "name" in named:
                self.forms[-1].fields[named["name"]] = named.get("value", "")
            case "select":
                self._select = named.get("name", "")
            case "option" if self.forms and self._select:
                self.forms[-1].fields.setdefault(self._select, named.get("value", ""))
            case _:
                pass


REASON: Final = "put right during the demo"
PATIENCE_SECONDS: Final = 15.0
"""Of the clock on the wall: a quarter of an hour of business at the demo's speed."""


class Operator:
    """One person at the pages; `answers` is what this person knows: per table and value, what it is mapped to."""

    def __init__(self, room_url: str, answers: Mapping[tuple[str, str], str]) -> None:
        self._room = URL(room_url)
        self._answers = answers
        self._session: aiohttp.ClientSession | None = None
        self.mapped: set[tuple[str, str, str]] = set()
        """Table, marketplace and value of all that was put right."""
        self._asked_since: dict[str, float] = {}
        """When a case was first seen that asks what became of a call."""

    async def close(self) -> None:
        """Leave."""
        if self._session is not None:
            await self._session.close()

    async def round(self) -> int:
        """Look through the open cases once; how many things were put right.

        Raises:
            Transient: the pages do not answer.
        """
        try:
            if self._session is None:
                await self._sign_in()
            listed = Page(await self._get("/cases"))
            done = 0
            for link in dict.fromkeys(link for link in listed.links if link.startswith("/cases/")):
                done += await self._put_right(Page(await self._get(link)))
            return done
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Transient(f"the control room: {type(error).__name__}") from error

    async def _put_right(self, page: Page) -> int:
        done = 0
        for form in page.forms:
            if form.action == "/settle":
                done += await self._settle(form)
            if not form.action.startswith("/mappings/") or form.action.endswith("/remove"):
                continue
            table, left = form.action.rpartition("/")[2], form.fields.get("left", "")
            answer, what = self._answers.get((table, left)), (table, form.fields.get("marketplace", ""), left)
            if answer is None or what in self.mapped:
                continue
            await self._post(form.action, form.fields | {"right": answer, "reason": REASON})
            self.mapped.add(what)
            done += 1
        return done

    async def _settle(self, form: Form) -> int:
        """A call whose caller was killed: what had its effect is found by the service itself within the patience
        that this person has; what is still asked then has not happened."""
        case_id = form.fields["case_id"]
        if monotonic() - self._asked_since.setdefault(case_id, monotonic()) < PATIENCE_SECONDS:
            return 0
        await self._post(form.action, form.fields | {"outcome": "did-not-happen", "reason": REASON})
        self._asked_since[case_id] = monotonic()
        return 1

    async def _sign_in(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=15), cookie_jar=aiohttp.CookieJar(unsafe=True)
        )
        try:
            [form] = [form for form in Page(await self._get("/sign-in")).forms if form.action.startswith("/sign-in")]
            await self._post(form.action, form.fields | {"login": OPERATOR, "password": PASSWORD})
        except BaseException:
            with suppress(aiohttp.ClientError):
                await self._session.close()
            self._session = None
            raise

    async def _get(self, path: str) -> str:
        assert self._session is not None  # signing in made it
        async with self._session.get(self._room.join(URL(path, encoded=True))) as answer:
            answer.raise_for_status()
            return await answer.text()

    async def _post(self, path: str, fields: Mapping[str, str]) -> None:
        assert self._session is not None  # as above
        async with self._session.post(self._room.join(URL(path, encoded=True)), data=fields) as answer:
            answer.raise_for_status()
