"""The composed machine runs what the code names, with the image that the Dockerfile makes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.embedded import jars
from deploy.dashboards.__main__ import DATA
from deploy.k8s import manifests
from shared.lifecycle import DRAIN_SECONDS
from shared.settings import VARIABLES
from shared.topics import CONTROL_ROOM, SERVICES

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def test_every_service_runs_its_own_console_script_from_the_one_image(composed: dict[str, Any]) -> None:
    ours = {name: one for name, one in composed.items() if one["image"] == manifests.PRODUCT}
    assert set(ours) == {*SERVICES, "migrate"}
    for name in SERVICES:
        assert ours[name]["command"] == [name]
        assert ours[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert int(ours[name]["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS + 5
        assert set(ours[name]["environment"]) <= set(VARIABLES)
        assert ours[name]["read_only"]
    assert ours["migrate"]["command"] == ["bridge", "migrate"]


def test_every_file_that_is_mounted_is_there(composed: dict[str, Any]) -> None:
    made_by_people = {"./bridge.toml", "./people.toml"}
    sources = {volume.partition(":")[0] for one in composed.values() for volume in one.get("volumes", [])}
    for source in sources - made_by_people:
        assert not source.startswith(".") or (ROOT / source).exists(), source


def test_what_people_make_in_a_checkout_is_no_part_of_it(composed: dict[str, Any]) -> None:
    ignored = (ROOT / ".gitignore").read_text().split("\n")
    assert {"/bridge.toml", "/bridge.env", "/people.toml", "/bridge-data/"} <= set(ignored)
    assert composed["acceptor"]["env_file"] == [{"path": "bridge.env", "required": False}]


def test_postgres_is_asked_by_the_way_that_its_start_keeps_closed(composed: dict[str, Any]) -> None:
    """While the database is made a first server answers by its socket alone, and ends again."""
    assert composed["postgres"]["healthcheck"]["test"] == ["CMD-SHELL", "pg_isready -h 127.0.0.1 -U bridge"]


def test_prometheus_asks_every_service_at_its_health_port() -> None:
    (job,) = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())["scrape_configs"]
    assert set(job["static_configs"][0]["targets"]) == {f"{name}:{manifests.HEALTH_PORT}" for name in SERVICES}


def test_grafana_has_the_source_of_data_that_the_dashboards_name() -> None:
    found = yaml.safe_load((DEPLOY / "compose" / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert DATA.uid in {source["uid"] for source in found}
    for path in (DEPLOY / "dashboards" / "json").iterdir():
        assert {panel["datasource"]["uid"] for panel in json.loads(path.read_text())["panels"]} == {DATA.uid}


def test_kafka_is_the_one_that_the_tests_run_with(composed: dict[str, Any]) -> None:
    assert composed["kafka"]["image"] == f"apache/kafka:{jars.KAFKA_VERSION}"
    strimzi = (DEPLOY / "k8s" / "overlays" / "production" / "kafka.yaml").read_text()
    assert f"version: {jars.KAFKA_VERSION}\n" in strimzi


def test_the_image_runs_as_the_user_that_the_pods_name_and_takes_no_extras() -> None:
    assert f"USER {manifests.USER}:{manifests.USER}" in DOCKERFILE
    assert f"EXPOSE {manifests.HEALTH_PORT} {manifests.PAGES_PORT}" in DOCKERFILE
    assert "embedded" not in DOCKERFILE
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and " ./" in line}
    assert {package.removesuffix("*") for package in packages} <= copied


def test_only_the_control_room_is_open_to_browsers_and_on_loopback_alone(composed: dict[str, Any]) -> None:
    for name, one in composed.items():
        for port in one.get("ports", []):
            assert port.startswith("127.0.0.1:")
            assert name == CONTROL_ROOM or name not in SERVICES
