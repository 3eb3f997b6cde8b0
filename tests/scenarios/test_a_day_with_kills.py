"""Every service is killed three times on the demo's day, at random moments: nothing is counted that was not planned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.plan import plan
from shared.topics import SERVICES

SEED, KILLS = 5, 3
SECONDS = 800
"""The day takes two minutes where the machine has nothing else to do."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(SECONDS + 120)]


def run_demo(folder: Path) -> dict[str, Any]:
    """Run the demo as people do, with servers of its own; the object of its last line."""
    command = [sys.executable, "-m", "bridge", "demo", "--once", "--json", "--folder", str(folder)]
    with subprocess.Popen(
        [*command, "--seed", str(SEED), "--kills", str(KILLS)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"COLUMNS": "200"},
    ) as process:  # fmt: skip
        late = ""
        try:
            said, told = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            # As Ctrl-C does: what it has started ends with it.
            late = f"not over after {SECONDS} s\n"
            process.send_signal(signal.SIGINT)
            said, told = process.communicate(timeout=60)
    if process.returncode != 0 or late:
        pytest.fail(f"{late}status {process.returncode}\n{said}\n{told[-6000:]}\n{last_words(folder)}", pytrace=False)
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    return figures


def last_words(folder: Path) -> str:
    """The end of every log."""
    logs = sorted((folder / "logs").glob("*.log"))
    return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def test_three_sigkills_per_service_change_no_final_count(tmp_path: Path) -> None:
    figures = run_demo(tmp_path)
    assert figures["kills"] == dict.fromkeys(SERVICES, KILLS), figures
    # What follows from the day's plan holds for a day without kills, and so for this one.
    planned = plan(SEED).figures()
    assert {name: figures[name] for name in planned} == planned, figures
    nothing = (
        *("orders_refused", "orders_timed_out", "orders_doubled", "totals_wrong", "stock_differences"),
        *("dead_letters", "contract_violations", "troubles_without_case", "cases_open"),
    )
    assert {name: figures[name] for name in nothing} == dict.fromkeys(nothing, 0), figures
    assert figures["payout_residual"] == "0", figures
