"""Who comes in, who may do what, and what a foreign site cannot do in their name."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from services.control_room.access import ROLES, People, Sessions, hash_password, person_as_toml, read_people
from services.control_room.pages import Room
from shared.database import Database
from shared.errors import Fatal
from tests.kit.flow import NOW
from tests.kit.pages import Teller, captured, people_file, project, unmapped_sku
from tests.services.control_room.visitor import forms_of, visit

PATHS = (
    *("/", "/cases", "/orders", "/offers", "/offers?show=products", "/mappings/sku", "/mappings/carrier", "/rules"),
    *("/payouts", "/payouts?show=suspense", "/dead-letters", "/audit"),
)


async def test_a_stranger_sees_the_door_and_nothing_else(room: Room) -> None:
    async with visit(room) as stranger:
        for path in PATHS:
            answer = await stranger.client.get(path, allow_redirects=False)
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/sign-in?next=")
        assert (await stranger.post("/mappings/sku", {"left": "x"})).status == 401


async def test_the_door_opens_for_the_right_password_only_and_leads_on(room: Room) -> None:
    async with visit(room) as visitor:
        wrong = await visitor.sign_in("olga", "guess")
        assert "Login or password is wrong." in await visitor.get(wrong.headers["Location"])
        assert (await visitor.sign_in("nobody")).headers["Location"].startswith("/sign-in")

        form = forms_of(await visitor.get("/sign-in?next=/cases%3Fteam%3Dfinance"))["/sign-in"]
        right = await visitor.post("/sign-in", form.fields | {"login": "olga", "password": "correct horse battery"})

        assert right.headers["Location"] == "/cases?team=finance"
        assert "Olga Santos" in await visitor.get("/")


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"])
async def test_the_door_never_leads_to_another_site(room: Room, to: str) -> None:
    async with visit(room) as visitor:
        form = forms_of(await visitor.get("/sign-in"))["/sign-in"]
        fields = form.fields | {"login": "olga", "password": "correct horse battery", "next": to}
        assert (await visitor.post("/sign-in", fields)).headers["Location"] == "/"


async def test_guessing_is_stopped_for_a_while(room: Room) -> None:
    for _ in range(8):
        room.people.note_failure("ada")
    async with visit(room) as visitor:
        answer = await visitor.sign_in("ada")
        assert "Too many attempts" in await visitor.get(answer.headers["Location"])
        room.people._failed.clear()


@pytest.mark.parametrize("role_login", ["vera", "olga", "finn", "ada"])
async def test_every_role_may_look_at_everything(room: Room, role_login: str) -> None:
    async with visit(room, role_login) as visitor:
        for path in PATHS:
            assert "<h1>" in await visitor.get(path)


async def test_a_viewer_is_offered_no_form_and_refused_when_sending_one_all_the_same(
    room: Room, database: Database
) -> None:
    teller = Teller.new()
    case_id = unmapped_sku(teller, captured("W-1-A", NOW), "SOCKS", timedelta(hours=1))
    async with database.transaction() as rows:
        await project(rows, teller.told)

    async with visit(room, "vera") as viewer:
        html = await viewer.get(f"/cases/{case_id}")
        assert set(forms_of(html)) == {"/sign-out"}
        token = forms_of(html)["/sign-out"].fields["token"]
        for path in (
            "/mappings/sku",
            "/mappings/sku/remove",
            "/answer",
            "/note",
            "/close",
            "/hold",
            "/settle",
            "/rules",
        ):
            answer = await viewer.post(path, {"token": token, "case_id": case_id})
            assert answer.status == 403
            assert "may look at this" in await answer.text()
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0


@pytest.mark.parametrize(
    ("login", "path"),
    [("finn", "/mappings/sku"), ("finn", "/mappings/attribute"), ("finn", "/answer"), ("olga", "/rules")],
)
async def test_a_role_does_only_its_own_business(room: Room, login: str, path: str) -> None:
    async with visit(room, login) as visitor:
        token = forms_of(await visitor.get("/"))["/sign-out"].fields["token"]
        assert (await visitor.post(path, {"token": token})).status == 403


async def test_a_form_without_its_sessions_token_or_from_another_site_is_refused(
    room: Room, database: Database
) -> None:
    fields = {"marketplace": "m", "left": "SOCKS", "right": "P1"}
    async with visit(room, "olga") as olga, visit(room, "ada") as ada:
        foreign = forms_of(await ada.get("/"))["/sign-out"].fields["token"]
        own = forms_of(await olga.get("/"))["/sign-out"].fields["token"]

        assert (await olga.post("/mappings/sku", fields)).status == 403
        assert (await olga.post("/mappings/sku", fields | {"token": foreign})).status == 403
        assert (await olga.post("/mappings/sku", fields | {"token": own}, Sec_Fetch_Site="cross-site")).status == 403
        assert (await olga.post("/sign-in", fields)).status == 403
        assert await database.fetchval("SELECT count(*) FROM mapping_versions") == 0
        assert (await olga.post("/mappings/sku", fields | {"token": own})).status == 303
    assert await database.fetchval("SELECT count(*) FROM mapping_versions") == 1


async def test_pages_forbid_what_they_do_not_need(room: Room) -> None:
    room.secure = True
    async with visit(room) as visitor:
        answer = await visitor.client.get("/sign-in")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Strict-Transport-Security" in answer.headers
        cookie = answer.cookies["control-room"]
        assert cookie["httponly"]
        assert cookie["secure"]
        assert cookie["samesite"] == "Lax"


async def test_a_session_ends_when_its_owners_password_or_role_changes(
    database: Database, room: Room, tmp_path: Path
) -> None:
    room.people = People(people_file(tmp_path))
    async with visit(room, "ada") as visitor:
        text = room.people.path.read_text()
        room.people.path.write_text(text.replace('role = "admin"', 'role = "viewer"'))
        await visitor.get("/", 303)


async def test_those_who_were_known_go_on_while_the_peoples_file_is_broken(room: Room, tmp_path: Path) -> None:
    room.people = People(people_file(tmp_path))
    async with visit(room, "ada") as visitor:
        room.people.path.write_text("[[people")
        assert "Ada Brandt" in await visitor.get("/")


def test_a_forged_or_foreign_cookie_is_no_session() -> None:
    session = Sessions("one").new()

    assert Sessions("one").read(Sessions("one").write(session)) == session
    assert Sessions("two").read(Sessions("one").write(session)) is None
    assert Sessions("one").read("nonsense") is None
    assert Sessions("one").read(None) is None


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[[people]]\nid = 'u-1'", "has no login, name, role, password"),
        ("[[people]]\nid='u'\nlogin='a'\nname='A'\nrole='boss'\npassword='$argon2id$'", "none of viewer"),
        ("[[people]]\nid='u'\nlogin='a'\nname='A'\nrole='admin'\npassword='secret'", "no argon2 hash"),
        (
            "[[people]]\nid='u'\nlogin='a'\nname='A'\nrole='admin'\npassword='$argon2id$'\ntime_zone='Lisbon'",
            "e.g. Europe/Lisbon",
        ),
        (2 * "[[people]]\nid='u'\nlogin='a'\nname='A'\nrole='admin'\npassword='$argon2id$'\n", "the same id"),
    ],
)
def test_a_mistake_in_the_peoples_file_is_named(text: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        read_people(text)


def test_a_missing_peoples_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="control-room add-person"):
        People(tmp_path / "none.toml")


def test_an_entry_that_is_written_is_one_that_is_read() -> None:
    (person,) = read_people(person_as_toml("zoë", 'Zoë "Z" O’Hara', ROLES[1], "long enough"))

    assert (person.login, person.name, person.role) == ("zoë", 'Zoë "Z" O’Hara', "operations")
    with pytest.raises(ValueError, match="8 characters"):
        hash_password("short")
