"""`bridge migrate`: every service's schema and every topic brought up to date, before new code starts.

Services do the same for themselves when they start; where several replicas roll out, doing it once and
beforehand keeps a roll-out from waiting for a long migration behind its probes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rich.console import Console

import services
from bridge.commands.places import Json, run, say
from shared.database import migrate
from shared.kafka import ensure_topics
from shared.settings import from_environment
from shared.topics import SERVICES, TOPICS

_SERVICES: Final = Path(services.__path__[0])


def migrate_all(as_json: Json = False) -> None:
    """Bring all schemas up to date and create missing topics; harmless to repeat."""
    run(_migrate(as_json))


async def _migrate(as_json: bool) -> None:
    settings = from_environment()
    with Console(stderr=True).status("migrating") as status:
        for service in SERVICES:
            status.update(f"migrating {service}")
            await migrate(settings.database_url, *own_schema(service))
        status.update("looking at topics")
        created = await ensure_topics(settings.kafka, TOPICS, replication_factor=settings.replication_factor)
    say(
        f"{len(SERVICES)} schemas are up to date; topics created: {', '.join(created) or 'none, all are there'}",
        {"schemas": list(SERVICES), "topics_created": created},
        as_json,
    )


def own_schema(service: str) -> tuple[str, Path | None]:
    """The name of a service's schema, and the folder of its own migrations where it has one."""
    schema = service.replace("-", "_")
    folder = _SERVICES / schema / "migrations"
    return schema, folder if folder.is_dir() else None
