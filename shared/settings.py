"""Settings: where things are, read from the environment in this file only.

A secret may be given as a value or, with `_FILE` appended to its name, as the path of a file, as
Kubernetes mounts it. All mistakes are named at once, each with its variable and an example.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import Fatal
from shared.kafka import Address

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


@dataclass(frozen=True, slots=True)
class Settings:
    """What every service needs to start."""

    kafka: Address
    database_url: str
    otlp_endpoint: str | None
    health_host: str
    health_port: int

    def __repr__(self) -> str:
        """Without secrets: a settings object ends up in logs sooner or later."""
        return f"Settings(kafka={self.kafka.bootstrap_servers!r}, health={self.health_host}:{self.health_port})"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment.

    Raises:
        Fatal: something is missing or malformed; every mistake is named.
    """
    found = dict(os.environ if environment is None else environment)
    mistakes: list[str] = []

    def value(name: str, example: str | None = None) -> str | None:
        if file := found.get(f"{name}_FILE"):
            try:
                return Path(file).read_text().strip()
            except OSError as error:
                mistakes.append(f"{name}_FILE={file}: {error.strerror}; name a file that this user can read")
                return None
        text = found.get(name)
        if not text and example is not None:
            mistakes.append(f"{name} is missing: set it, e.g. {name}={example}")
        return text or None

    servers = value("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    for server in (servers or "").split(","):
        if servers and not server.strip().rpartition(":")[2].isdigit():
            mistakes.append(f"KAFKA_BOOTSTRAP_SERVERS has {server!r}: write host:port, e.g. kafka-1:9092,kafka-2:9092")
    database_url = value("DATABASE_URL", "postgresql://user@127.0.0.1:5432/bridge")
    if database_url and urlsplit(database_url).scheme not in ("postgresql", "postgres"):
        # The URL itself may hold a password and is not repeated.
        mistakes.append("DATABASE_URL is no PostgreSQL URL: start it with postgresql://")
    protocol = value("KAFKA_SECURITY_PROTOCOL") or "PLAINTEXT"
    if protocol not in _PROTOCOLS:
        mistakes.append(f"KAFKA_SECURITY_PROTOCOL={protocol}: choose one of {', '.join(_PROTOCOLS)}")
    port = value("HEALTH_PORT") or "8080"
    if not port.isdigit() or int(port) > 65_535:
        mistakes.append(f"HEALTH_PORT={port}: a port from 0 (any free one) to 65535, e.g. 8080")
    sasl = protocol.startswith("SASL")
    address = Address(
        bootstrap_servers=servers or "",
        security_protocol=protocol,
        sasl_mechanism=(value("KAFKA_SASL_MECHANISM") or "SCRAM-SHA-512") if sasl else None,
        sasl_username=value("KAFKA_SASL_USERNAME", "bridge") if sasl else None,
        sasl_password=value("KAFKA_SASL_PASSWORD", "…, or KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka")
        if sasl
        else None,
        ca_file=value("KAFKA_CA_FILE"),
    )
    settings_otlp = value("OTEL_EXPORTER_OTLP_ENDPOINT")
    host = value("HEALTH_HOST") or "127.0.0.1"
    if mistakes:
        raise Fatal("the settings have " + str(len(mistakes)) + " mistake(s): " + "; ".join(mistakes))
    return Settings(address, database_url or "", settings_otlp, host, int(port))
