"""Dashboards and alerts ask for what the code emits, and for all of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dashboards.__main__ import documents
from deploy.dashboards.boards import BOARDS
from shared.topics import SERVICES

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"

EXPORT = """
from prometheus_client import REGISTRY
from shared.telemetry import Metrics, set_up

telemetry = set_up("test", "test-1", None)
for instrument in vars(Metrics).values():
    for use in ("add", "record", "set"):
        if hasattr(instrument, use):
            getattr(instrument, use)(1)
for family in REGISTRY.collect():
    for sample in family.samples:
        if sample.labels.get("otel_scope_name") == "sfcc-mirakl-bridge":
            print(sample.name)
"""


@pytest.fixture(scope="module")
def emitted() -> set[str]:
    """Every series, named as the exporter names it, of a process that has used every instrument."""
    done = subprocess.run([sys.executable, "-c", EXPORT], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:bridge|messaging|http)_[a-z0-9_]+", expression))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_query_asks_for_a_metric_that_is_emitted_and_every_metric_is_shown(emitted: set[str]) -> None:
    asked = {
        name for board in BOARDS for panel in board.panels for query, _ in panel.queries for name in names_in(query)
    }
    assert asked <= emitted
    unseen = {name for name in emitted - asked if not name.endswith(("_sum", "_count", "_bucket"))}
    assert not unseen, "a metric that nobody looks at: show it in deploy/dashboards/boards.py"


def test_every_alert_asks_for_a_metric_that_is_emitted_and_is_in_the_runbook(emitted: set[str]) -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text()
    for rule in rules():
        assert names_in(rule["expr"]) <= emitted, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket", "none"}
        assert rule["annotations"]["summary"]
        assert f"`{rule['alert']}`" in runbook, "say in docs/operations.md what to do"


def test_a_service_that_tells_nothing_is_missed() -> None:
    (missing,) = (rule["expr"] for rule in rules() if rule["alert"] == "ServiceMissing")
    assert set(re.findall(r'service="([^"]+)"', missing)) == set(SERVICES)


def test_the_files_that_grafana_reads_are_those_of_the_code() -> None:
    differ = [str(path) for path, text in documents().items() if not path.is_file() or path.read_text() != text]
    assert not differ, "run `make schemas`"


def test_prometheus_takes_the_rules_and_they_fire(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    tests = ROOT / "deploy" / "prometheus" / "rules_test.yml"
    done = subprocess.run([promtool, "test", "rules", str(tests)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
