"""Mirakl's client on the wire: how often a request leaves, and what its end is called."""

from __future__ import annotations

import pytest

from shared.errors import Transient, UnknownOutcome
from shared.http import open_session
from shared.mirakl.client import MiraklClient
from shared.mirakl.operations import OPERATIONS
from shared.operations import OpenGate
from tests.clients.mirakl_calls import calls
from tests.clients.wire import CUT, Arrival, Reply, serving


def test_every_operation_has_a_call_here() -> None:
    assert calls().keys() == OPERATIONS.keys()


@pytest.mark.parametrize("reused", [False, True], ids=["fresh connection", "reused connection"])
@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_request_whose_connection_is_cut_arrives_once_and_is_not_repeated(name: str, reused: bool) -> None:
    def answer(arrival: Arrival) -> Reply:
        return Reply() if warming else CUT

    warming = reused
    async with serving(answer) as wire, open_session() as session:
        client = MiraklClient(session, wire.url, lambda: "key", "worten/4711", OpenGate(), shop_id=4711)
        if reused:
            await client.check_version()
            warming = False
            wire.arrivals.clear()
        expected = Transient if OPERATIONS[name].repeat == "reading" else UnknownOutcome
        with pytest.raises(expected):
            await calls(wire.url)[name](client)
        assert len(wire.arrivals) == 1
        assert wire.arrivals[0].connection == 1
