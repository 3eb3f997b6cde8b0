# The verbs. `make` alone prints them.
.DEFAULT_GOAL := help
.PHONY: help demo test check schemas bench chaos mutants
ARGS ?=

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, found: $$(python3 --version 2>&1 || echo none)." \
		"Install it, or name it: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@echo "preparing $(VENV) with $(PYTHON) (once)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]' >&2
	@touch $(READY)

demo: $(READY) ## a day of trade between two sandboxes, with the control room open; ARGS="--once --json" ends by itself
	@$(PY) -m bridge demo $(ARGS)

test: $(READY) ## run the whole suite; starts real Kafka and PostgreSQL unless their addresses are given
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## format, lint, types, layers, schema drift, the fast tests
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports
	@$(PY) -m shared.schemas --check
	@$(PY) -m pytest tests/unit tests/contract -q

schemas: $(READY) ## write schemas/, handbook, settings, sandbox calls, dashboards and manifests from the code
	@$(PY) -m shared.schemas
	@$(PY) -m shared.handbook
	@$(PY) -m shared.settings_reference
	@$(PY) -m sandbox
	@$(PY) -m deploy.dashboards
	@$(PY) -m deploy.k8s

bench: $(READY) ## measure, e.g. make bench ARGS="path --json"
	@$(PY) -m bench $(ARGS)

chaos: $(READY) ## hit a small service at random, e.g. make chaos ARGS="--kills 300 --seed 1 --json"
	@$(PY) -m tests.chaos $(ARGS)

mutants: $(READY) ## seed defects and see that a test catches each
	@$(PY) -m tests.mutants $(ARGS)
