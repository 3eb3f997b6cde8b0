"""The base's manifests as data. Names, ports, partitions and grace periods come from the code that means them.

Every service is a Deployment: none keeps anything on a disk, and group membership is not static, so a StatefulSet
would only make roll-outs slower. Consumers rebalance eagerly, so pods are replaced one by one and never added first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from shared.configuration import ControlRoom, Health
from shared.lifecycle import DRAIN_SECONDS
from shared.topics import ACCEPTOR, CONTROL_ROOM, INGESTOR, INVENTORY, LEDGER, NOTIFIER, SERVICES, topic

Manifest = dict[str, Any]

PRODUCT: Final = "sfcc-mirakl-bridge"
ROOT: Final = Path(__file__).resolve().parents[2]
VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

HEALTH_PORT: Final = Health().port
PAGES_PORT: Final = ControlRoom().port
KAFKA_PORT: Final = 9093
POSTGRES_PORT: Final = 5432
OTLP_PORT: Final = 4318
LOCAL_DNS: Final = "169.254.20.10/32"
"""Where Kubernetes' cache of names listens on every node that has one; it is no pod, so no selector finds it."""
METRICS_FROM: Final = "monitoring"
PAGES_FROM: Final = "ingress-nginx"
"""The namespaces of whoever reads metrics, and of the ingress: the only ones that reach a pod."""
USER: Final = 10001
"""The image's user and group, as deploy/Dockerfile makes them."""

PRE_STOP_SECONDS: Final = 5
"""Until load balancers have heard that a pod leaves; only the control room is behind one."""
LEAVE_SECONDS: Final = 10
"""After the drain budget: what hangs is cancelled, and the process leaves all the same."""

SCALED: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    INVENTORY: {INVENTORY: ("stock-levels", "offers", "orders")},
    INGESTOR: {INGESTOR: ("order-decisions", "offers")},
    ACCEPTOR: {ACCEPTOR: ("orders",), f"{ACCEPTOR}-stocks": ("offer-stocks",)},
    NOTIFIER: {NOTIFIER: ("orders", "dispatches")},
    LEDGER: {LEDGER: ("orders",)},
    CONTROL_ROOM: {CONTROL_ROOM: ("orders", "offer-stocks")},
}
"""Whose lag asks for more pods: per service its groups and the topics that bring load. Who is not here polls."""
LAG_PER_POD: Final = 1_000
"""About a second's work of one process."""


def base() -> dict[str, list[Manifest]]:
    """Every file of the base and what is in it, `kustomization.yaml` included."""
    files = {f"{name}.yaml": service(name) for name in SERVICES}
    files["migrate.yaml"] = [migration()]
    files["common.yaml"] = [account(), kafka_sign_in(), *network()]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(files),
    }
    return {**files, "kustomization.yaml": [kustomization]}


def most_replicas(name: str) -> int:
    """More pods than the largest topic has partitions would stand idle."""
    return max(topic(one).partitions for topics in SCALED[name].values() for one in topics)


def grace_seconds(name: str) -> int:
    """Until Kubernetes kills: longer than the process takes to leave by itself."""
    return int(DRAIN_SECONDS) + LEAVE_SECONDS + (PRE_STOP_SECONDS if name == CONTROL_ROOM else 0)


def service(name: str) -> list[Manifest]:
    """All that belongs to one service."""
    found = [deployment(name), budget(name)]
    if name in SCALED:
        found.append(scaling(name))
    if name == CONTROL_ROOM:
        found.append(pages())
    return found


def _about(name: str, kind: str, version: str, spec: Mapping[str, Any], **more: Any) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": _labels(name)}, **more} | (
        {"spec": dict(spec)} if spec else {}
    )


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": PRODUCT}


def deployment(name: str) -> Manifest:
    """The pods of one service."""
    selector = {"matchLabels": _labels(name)}
    spread = [
        {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
    spec: dict[str, Any] = {
        "selector": selector,
        # The old pod leaves its group before the new one joins: every join of an eager group stops all members.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "revisionHistoryLimit": 3,
        "template": {
            "metadata": {"labels": _labels(name)},
            "spec": {**_pod(name, [name]), "topologySpreadConstraints": spread},
        },
    }
    if name not in SCALED:
        # Elsewhere the number is the autoscaler's, and stating it here would set it back at every roll-out.
        spec = {"replicas": 2, **spec}
    return _about(name, "Deployment", "apps/v1", spec)


def _pod(name: str, command: list[str]) -> dict[str, Any]:
    serves = name in SERVICES
    container: dict[str, Any] = {
        "name": name,
        "image": PRODUCT,
        "command": command,
        "envFrom": [{"configMapRef": {"name": "bridge-places"}}],
        "env": [{"name": key, "value": value} for key, value in _environment(name).items()],
        "resources": {"requests": {"cpu": "250m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/bridge", "readOnly": True},
            {"name": "secrets", "mountPath": "/run/secrets/bridge", "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108
        ],
    }
    if serves:
        container |= {"ports": _ports(name), **_probes()}
    if name == CONTROL_ROOM:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}}
    return {
        "serviceAccountName": "bridge",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(name),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "settings", "configMap": {"name": "bridge-settings"}},
            {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": _secrets(name)}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}},
        ],
    }


def _environment(name: str) -> dict[str, str]:
    found = {"BRIDGE_CONFIG": "/etc/bridge/bridge.toml", "HEALTH_HOST": "0.0.0.0"}  # noqa: S104
    if name == CONTROL_ROOM:
        found |= {
            "CONTROL_ROOM_HOST": "0.0.0.0",  # noqa: S104
            "CONTROL_ROOM_PEOPLE": "/run/secrets/bridge/people.toml",
            "CONTROL_ROOM_SECRET_FILE": "/run/secrets/bridge/sessions",
        }
    return found


def _secrets(name: str) -> list[Manifest]:
    """Files, never variables: a rotated file is read at its next use. Nobody has what he does not need."""
    found: list[Manifest] = [
        {"secret": {"name": "bridge-kafka", "items": [{"key": "password", "path": "kafka"}]}},
        {"secret": {"name": "bridge-cluster-ca-cert", "items": [{"key": "ca.crt", "path": "kafka-ca.pem"}]}},
        {"secret": {"name": "bridge-postgres-app", "items": [{"key": "password", "path": "postgres"}]}},
        {"secret": {"name": "bridge-postgres-ca", "items": [{"key": "ca.crt", "path": "postgres-ca.pem"}]}},
    ]
    if name == CONTROL_ROOM:
        found.append({"secret": {"name": "bridge-control-room"}})
    elif name in SERVICES:
        found.append({"secret": {"name": "bridge-partners"}})
    return found


def _ports(name: str) -> list[Manifest]:
    found: list[Manifest] = [{"name": "health", "containerPort": HEALTH_PORT}]
    return [*found, {"name": "pages", "containerPort": PAGES_PORT}] if name == CONTROL_ROOM else found


def _probes() -> Manifest:
    """Live: the loops make progress; an outage of Kafka or PostgreSQL restarts nobody."""

    def ask(path: str, every: int, failures: int) -> Manifest:
        return {
            "httpGet": {"path": path, "port": "health"},
            "periodSeconds": every,
            "timeoutSeconds": 3,
            "failureThreshold": failures,
        }

    return {
        "startupProbe": ask("/live", 2, 60),
        "livenessProbe": ask("/live", 10, 3),
        "readinessProbe": ask("/ready", 5, 2),
    }


def budget(name: str) -> Manifest:
    """A drained node takes one pod of a service at a time."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _labels(name)}}
    return _about(name, "PodDisruptionBudget", "policy/v1", spec)


def scaling(name: str) -> Manifest:
    """More pods while records wait. Slow to shrink, since every change stops the whole group for a moment."""
    triggers = [
        {
            "type": "kafka",
            "metadata": {
                "bootstrapServersFromEnv": "KAFKA_BOOTSTRAP_SERVERS",
                "consumerGroup": group,
                "topic": one,
                "lagThreshold": str(LAG_PER_POD),
                "offsetResetPolicy": "earliest",
                # A partition that stands still, since its consumer was stopped for a person, needs no more pods.
                "excludePersistentLag": "true",
                "allowIdleConsumers": "false",
                "sasl": "scram_sha512",
                "tls": "enable",
            },
            "authenticationRef": {"name": "bridge-kafka"},
        }
        for group, topics in SCALED[name].items()
        for one in topics
    ]
    behaviour = {
        "scaleUp": {
            "stabilizationWindowSeconds": 60,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 120}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 900,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
        },
    }
    spec = {
        "scaleTargetRef": {"name": name},
        "pollingInterval": 30,
        "minReplicaCount": 2,
        "maxReplicaCount": most_replicas(name),
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour}},
        "triggers": triggers,
    }
    return _about(name, "ScaledObject", "keda.sh/v1alpha1", spec)


def pages() -> Manifest:
    """What an ingress sends browsers to."""
    spec = {"selector": _labels(CONTROL_ROOM), "ports": [{"name": "http", "port": 80, "targetPort": "pages"}]}
    return _about(CONTROL_ROOM, "Service", "v1", spec)


def migration() -> Manifest:
    """Schemas and topics; run before a roll-out. Old code works beside a new schema, so nothing has to stop."""
    pod = _pod("migrate", ["bridge", "migrate"]) | {"restartPolicy": "Never"}
    spec = {
        "backoffLimit": 6,
        "ttlSecondsAfterFinished": 86_400,
        "template": {"metadata": {"labels": _labels("migrate")}, "spec": pod},
    }
    return _about("migrate", "Job", "batch/v1", spec)


def account() -> Manifest:
    """Nobody asks Kubernetes anything."""
    return _about("bridge", "ServiceAccount", "v1", {}, automountServiceAccountToken=False)


def kafka_sign_in() -> Manifest:
    """How the autoscaler reads the lag: as the services sign in."""
    spec = {
        "env": [{"parameter": "username", "name": "KAFKA_SASL_USERNAME"}],
        "secretTargetRef": [
            {"parameter": "password", "name": "bridge-kafka", "key": "password"},
            {"parameter": "ca", "name": "bridge-cluster-ca-cert", "key": "ca.crt"},
        ],
    }
    return _about("bridge-kafka", "TriggerAuthentication", "keda.sh/v1alpha1", spec)


def network() -> list[Manifest]:
    """Nothing in and nothing out, but for what is named."""
    ours = {"matchLabels": {"app.kubernetes.io/part-of": PRODUCT}}
    partners = {
        "matchExpressions": [
            {
                "key": "app.kubernetes.io/name",
                "operator": "In",
                "values": [name for name in SERVICES if name != CONTROL_ROOM],
            }
        ],
        **ours,
    }
    dns = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    servers = [{"protocol": "TCP", "port": port} for port in (KAFKA_PORT, POSTGRES_PORT, OTLP_PORT)]
    outside = {
        "ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"]}
    }
    anywhere: list[Manifest] = [{"namespaceSelector": {}}]
    names: list[Manifest] = [*anywhere, {"ipBlock": {"cidr": LOCAL_DNS}}]

    def policy(name: str, selector: Manifest, **rules: list[Manifest]) -> Manifest:
        kinds = [kind.capitalize() for kind in rules]
        return _about(
            name,
            "NetworkPolicy",
            "networking.k8s.io/v1",
            {
                "podSelector": selector,
                "policyTypes": kinds,
                **{kind: found for kind, found in rules.items() if found},
            },
        )

    def namespace(name: str) -> list[Manifest]:
        return [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]

    return [
        policy("default-deny", ours, ingress=[], egress=[]),
        policy("names-and-servers", ours, egress=[{"to": names, "ports": dns}, {"to": anywhere, "ports": servers}]),
        policy("partners", partners, egress=[{"to": [outside], "ports": [{"protocol": "TCP", "port": 443}]}]),
        policy(
            "metrics",
            ours,
            ingress=[{"from": namespace(METRICS_FROM), "ports": [{"protocol": "TCP", "port": "health"}]}],
        ),
        policy(
            "pages",
            {"matchLabels": _labels(CONTROL_ROOM)},
            ingress=[{"from": namespace(PAGES_FROM), "ports": [{"protocol": "TCP", "port": "pages"}]}],
        ),
    ]
