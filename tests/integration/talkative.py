"""A process that says all it can: it calls with every secret of its settings, and logs, traces and fails aloud."""

from __future__ import annotations

import asyncio
import sys

import structlog
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from shared.clock import ManualClock
from shared.database import Database
from shared.errors import BridgeError
from shared.http import open_session
from shared.kafka import cluster_id
from shared.mirakl.client import MiraklClient
from shared.operations import OpenGate
from shared.settings import load
from shared.sfcc.client import Credentials, Instance, SfccClient
from shared.telemetry import set_up, set_up_logs
from tests.kit.flow import NOW


async def main() -> None:
    """One round of calls per line on standard input; `done` or the error follows each on standard output."""
    set_up_logs("talkative", "1", level="DEBUG")
    settings = load("acceptor")
    telemetry = set_up("talkative", "1", None, exporters=[ConsoleSpanExporter()])
    log = structlog.get_logger("talkative")
    (shop,) = settings.shops
    log.info("settings", reason=f"{settings} {settings!r} {settings.configuration} {shop}")
    async with open_session() as session:
        key = shop.key("acceptor").value
        mirakl = MiraklClient(session, shop.marketplace.base_url, key, shop.account, OpenGate())
        sfcc = SfccClient(
            session,
            Instance(
                settings.sfcc.scapi, settings.sfcc.organization_id, shop.shop.site, settings.sfcc.account_manager_url
            ),
            Credentials(settings.sfcc.client_id, settings.sfcc.client_secret.value),
            OpenGate(),
            ManualClock(NOW),
            shopper=Credentials(settings.sfcc.slas_client_id, settings.sfcc.slas_client_secret.value),
        )
        for line in sys.stdin:
            try:
                match line.strip():
                    case "mirakl":
                        await mirakl.check_version()
                    case "sfcc":
                        await sfcc.check_tokens()
                    case "kafka":
                        await cluster_id(settings.kafka, timeout_seconds=5.0)
                    case "postgres":
                        await Database.connect(
                            settings.database_url, "x", application="x", password=settings.database_password
                        )
                print("done", flush=True)
            except BridgeError as error:
                log.exception("failed", exc_info=error)
                print(f"failed {error!r}", flush=True)
    telemetry.stop()
    raise RuntimeError("it ends with a traceback too")


if __name__ == "__main__":
    asyncio.run(main())
