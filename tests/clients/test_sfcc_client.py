"""SFCC's client on the wire: how often a request leaves, what its end is called, and its tokens."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from datetime import timedelta
from urllib.parse import parse_qs

import pytest

from shared.clock import ManualClock
from shared.errors import Refused, Transient, UnknownOutcome
from shared.http import as_json, open_session
from shared.operations import OpenGate, listening
from shared.sfcc.client import Credentials, SfccClient
from shared.sfcc.operations import OPERATIONS
from shared.sfcc.tokens import Token
from tests.clients.sfcc_calls import ORDER, START, calls, client, instance
from tests.clients.wire import CUT, Arrival, Reply, serving

ADMIN_TOKENS = "/dwsso/oauth2/access_token"
SHOPPER_TOKENS = "/shopper/auth/v1/organizations/f_ecom_zzxy_prd/oauth2/trusted-system/token"


def granted(token: str, seconds: int = 1799) -> Reply:
    """A token service's answer."""
    return Reply(body=as_json({"access_token": token, "expires_in": seconds, "token_type": "Bearer"}))


def is_for_a_token(arrival: Arrival) -> bool:
    """Whether a token is asked for."""
    return arrival.path in (ADMIN_TOKENS, SHOPPER_TOKENS)


def test_every_operation_has_a_call_here() -> None:
    assert calls().keys() == OPERATIONS.keys()


@pytest.mark.parametrize("reused", [False, True], ids=["fresh connection", "reused connection"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_request_whose_connection_is_cut_arrives_once_and_is_not_repeated(name: str, reused: bool) -> None:
    cut_path = {"getAccessToken": ADMIN_TOKENS, "getTrustedSystemAccessToken": SHOPPER_TOKENS}.get(name)

    def answer(arrival: Arrival) -> Reply:
        if warming or (is_for_a_token(arrival) and arrival.path != cut_path):
            return granted("token", 1 if cut_path else 1799)
        return CUT

    warming = reused
    clock = ManualClock(START)
    async with serving(answer) as wire, open_session() as session:
        sfcc = client(session, wire.url, clock=clock)
        if reused:
            await sfcc.check_tokens()
            warming = False
            clock.advance(timedelta(hours=1) if cut_path else timedelta(0))
            wire.arrivals.clear()
        with pytest.raises(Transient if OPERATIONS[name].repeat == "reading" else UnknownOutcome):
            await calls(wire.url)[name](sfcc)
        arrived = [a for a in wire.arrivals if a.path == cut_path or (cut_path is None and not is_for_a_token(a))]
        assert len(arrived) == 1


# Tokens ---------------------------------------------------------------------------------------------


async def test_many_callers_take_one_token_between_them() -> None:
    def answer(arrival: Arrival) -> Reply:
        return granted("token") if is_for_a_token(arrival) else Reply(body=b'{"orderNo": "1"}')

    async with serving(answer) as wire, open_session() as session:
        sfcc = client(session, wire.url)
        await asyncio.gather(*(sfcc.read_order(str(number)) for number in range(20)))
        assert sum(is_for_a_token(arrival) for arrival in wire.arrivals) == 1


async def test_a_token_is_renewed_while_it_still_lives_and_the_secret_is_asked_for_again() -> None:
    secrets = ["first", "rotated"]
    asked: list[str] = []

    def answer(arrival: Arrival) -> Reply:
        if is_for_a_token(arrival):
            asked.append(arrival.headers["authorization"])
            return granted(f"token-{len(asked)}", 1000)
        return Reply(body=b'{"orderNo": "1"}')

    clock = ManualClock(START)
    async with serving(answer) as wire, open_session() as session:
        sfcc = SfccClient(session, instance(wire.url), Credentials("admin", lambda: secrets.pop(0)), OpenGate(), clock)
        await sfcc.read_order("1")
        clock.advance(timedelta(seconds=799))
        await sfcc.read_order("1")
        clock.advance(timedelta(seconds=2))
        await sfcc.read_order("1")
        used = [arrival.headers["authorization"] for arrival in wire.arrivals if not is_for_a_token(arrival)]
    assert used == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]
    assert asked == [Credentials("admin", lambda: "first").basic(), Credentials("admin", lambda: "rotated").basic()]


async def test_while_the_token_service_is_away_the_old_token_goes_on_as_long_as_it_lives() -> None:
    away = False
    asked = 0

    def answer(arrival: Arrival) -> Reply:
        nonlocal asked
        if is_for_a_token(arrival):
            asked += 1
            return Reply(503) if away else granted("token", 1000)
        return Reply(body=b'{"orderNo": "1"}')

    clock = ManualClock(START)
    async with serving(answer) as wire, open_session() as session:
        sfcc = client(session, wire.url, clock=clock)
        await sfcc.read_order("1")
        away = True
        clock.advance(timedelta(seconds=850))
        await sfcc.read_order("1")
        await sfcc.read_order("1")
        assert asked == 2  # one failed renewal, and none right after it
        clock.advance(timedelta(seconds=130))
        with pytest.raises(Transient):
            await sfcc.read_order("1")


async def test_a_revoked_token_is_replaced_at_the_next_call_and_a_fresh_one_that_is_not_taken_is_refused() -> None:
    taken = {"token-1"}
    given = 0

    def answer(arrival: Arrival) -> Reply:
        nonlocal given
        if is_for_a_token(arrival):
            given += 1
            return granted(f"token-{given}")
        token = arrival.headers["authorization"].removeprefix("Bearer ")
        return Reply(body=b'{"orderNo": "1"}') if token in taken else Reply(401)

    async with serving(answer) as wire, open_session() as session:
        sfcc = client(session, wire.url)
        await sfcc.read_order("1")
        taken.clear()
        with pytest.raises(Transient):
            await sfcc.read_order("1")
        with pytest.raises(Refused) as refused:
            await sfcc.read_order("1")
        assert refused.value.status == 401
        taken.add("token-3")
        assert (await sfcc.read_order("1")).order_no == "1"


async def test_an_address_for_one_order_travels_in_a_token_of_its_own() -> None:
    def answer(arrival: Arrival) -> Reply:
        return granted(f"token-{len(wire.arrivals)}") if is_for_a_token(arrival) else Reply(201, b"")

    async with serving(answer) as wire, open_session() as session:
        sfcc = client(session, wire.url)
        await sfcc.create_order(ORDER)
        await sfcc.create_order(ORDER, email="alias+1@notification.mirakl.net")
        await sfcc.create_order(ORDER)
    asked = [parse_qs(arrival.body.decode()) for arrival in wire.arrivals if is_for_a_token(arrival)]
    assert [form.get("email_id") for form in asked] == [None, ["alias+1@notification.mirakl.net"]]
    assert {form["login_id"][0] for form in asked} == {"guest"}
    used = [arrival.headers["authorization"] for arrival in wire.arrivals if not is_for_a_token(arrival)]
    assert used == ["Bearer token-1", "Bearer token-3", "Bearer token-1"]


@pytest.mark.parametrize("refused", ["the client", "the token"])
async def test_no_secret_and_no_token_is_in_an_error(refused: str) -> None:
    def answer(arrival: Arrival) -> Reply:
        shown = arrival.headers["authorization"]
        if shown.startswith("Basic "):
            shown += b64decode(shown.removeprefix("Basic ")).decode()
        if is_for_a_token(arrival) and refused == "the token":
            return granted("t0ken-s3cret")
        return Reply(401, as_json({"error": "invalid_client", "detail": f"bad {shown}"}))

    async with serving(answer) as wire, open_session() as session:
        sfcc = client(session, wire.url)
        with pytest.raises(Refused, match="bad") as caught:
            await sfcc.read_order("1")
    error: BaseException | None = caught.value
    while error is not None:
        assert not any(secret in repr(error) for secret in ("admin-secret", "t0ken-s3cret", "YWRtaW4"))
        error = error.__context__
    assert "t0ken-s3cret" not in repr(Token("t0ken-s3cret", START, 1799))


async def test_one_login_twice_in_a_second_is_no_refusal() -> None:
    async with (
        serving(lambda arrival: Reply(409, b'{"message": "concurrent"}') if is_for_a_token(arrival) else CUT) as wire,
        open_session() as session,
    ):
        sfcc = client(session, wire.url)
        with pytest.raises(Refused):  # Account Manager knows no such thing
            await sfcc.read_order("1")
        with pytest.raises(Transient) as put_off:
            await calls(wire.url)["createOrders"](sfcc)
        assert put_off.value.retry_seconds == 1.0


async def test_only_the_token_service_speaks_of_a_key_and_it_says_which() -> None:
    refusing = True

    def answer(arrival: Arrival) -> Reply:
        if is_for_a_token(arrival):
            return Reply(401) if refusing else granted("token")
        return Reply(401)

    heard: set[str] = set()
    async with serving(answer) as wire, open_session() as session:
        admin = Credentials("admin", lambda: "secret", "sfcc.client_secret")
        sfcc = SfccClient(session, instance(wire.url), admin, OpenGate(), ManualClock(START))
        with listening(heard):
            with pytest.raises(Refused) as refused:
                await sfcc.read_order("1")
            assert (refused.value.key, heard) == ("sfcc.client_secret", set())
            refusing = False
            with pytest.raises(Refused) as refused:
                await sfcc.read_order("1")
            assert (refused.value.key, heard) == ("", {"sfcc.client_secret", "getAccessToken"})
