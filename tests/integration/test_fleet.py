"""Services side by side: started again after a crash, stopped together, and a word for people when one gives up."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from bridge.demo.world import OPERATOR, PASSWORD
from bridge.embedded.places import free_port
from bridge.fleet import Fleet, environment_with
from services.control_room.access import person_as_toml
from shared.errors import Fatal


def environment(kafka_bootstrap: str, database_url: str, folder: Path) -> dict[str, str]:
    people = folder / "people.toml"
    people.write_text(person_as_toml(OPERATOR, "Olga", "admin", PASSWORD) + "\n")
    return environment_with(
        KAFKA_BOOTSTRAP_SERVERS=kafka_bootstrap,
        DATABASE_URL=database_url,
        CONTROL_ROOM_PORT=str(free_port()),
        CONTROL_ROOM_PEOPLE=str(people),
    )


async def test_a_service_that_is_killed_is_started_again_and_a_stop_ends_it_well(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    fleet = Fleet(environment(kafka_bootstrap, database_url, tmp_path), tmp_path / "logs", ["control-room"])
    room = fleet.members["control-room"]
    async with fleet:
        await fleet.until_ready(60)
        room.signal(signal.SIGKILL)
        async with asyncio.timeout(60):
            while room.starts < 2:
                await asyncio.sleep(0.05)
        await fleet.until_ready(60)
        fleet.check()
    assert room.starts == 2
    assert '"stopping"' in room.log.read_text()


async def test_a_service_that_gives_up_stops_the_wait_and_says_why(tmp_path: Path) -> None:
    servers = environment("nowhere", "mysql://nobody@nowhere/x", tmp_path)
    async with Fleet(servers, tmp_path / "logs", ["control-room"]) as fleet:
        with pytest.raises(Fatal, match=r"control-room cannot go on: .*KAFKA_BOOTSTRAP_SERVERS"):
            await asyncio.wait_for(fleet.wait(asyncio.Event()), 60)
