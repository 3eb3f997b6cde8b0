"""`python -m deploy.k8s`: write the base, and the alerts as the operator's resource; `--check` only compares."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.k8s import manifests

HERE: Final = Path(__file__).parent
RULES: Final = HERE.parent / "prometheus" / "rules.yml"
_NOTE: Final = "# Written by `make schemas` from deploy/k8s/manifests.py: edit there.\n"


def documents() -> dict[Path, str]:
    """Every generated file with what it should hold."""
    found = {HERE / "base" / name: _text(parts) for name, parts in manifests.base().items()}
    found[HERE / "overlays" / "production" / "alerts.yaml"] = _text([alerts()])
    return found


def alerts() -> dict[str, Any]:
    """deploy/prometheus/rules.yml as prometheus-operator takes it."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": manifests.PRODUCT},
        "spec": yaml.safe_load(RULES.read_text("utf-8")),
    }


class _Plain(yaml.SafeDumper):
    """Without anchors: people read these files."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(parts: list[Mapping[str, Any]] | list[dict[str, Any]]) -> str:
    return _NOTE + yaml.dump_all(parts, Dumper=_Plain, sort_keys=False, width=120)


def main(arguments: list[str]) -> int:
    """Write or compare; the number of files that differ."""
    differ = [path for path, text in documents().items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in differ:
        print(path)
        if "--check" not in arguments:
            path.write_text(documents()[path], "utf-8")
    return len(differ) if "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
