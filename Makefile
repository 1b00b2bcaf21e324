# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHELL := /bin/bash
.DEFAULT_GOAL := help

help:  ## show this help
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv with everything in it; commands are in .venv/bin

$(STAMP): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/install.sh
	@touch $@

protos: $(STAMP)  ## compile the protocol files again
	@$(BIN)/python protos/generate.py && echo "protos: written"

docs: $(STAMP)  ## write what is generated again: CRDs, and the pages on configuration, metrics, custom resources
	@$(BIN)/python -m buildgrid_scheduler.config.reference docs/configuration.md
	@$(BIN)/python -m buildgrid_scheduler.server.metrics.page docs/metrics.md
	@$(BIN)/python -m buildgrid_operator.api.generate
	@$(BIN)/python tools/charts.py

lock: $(STAMP)  ## resolve the dependencies again
	@$(BIN)/uv pip compile -q --universal --generate-hashes --no-header --python-version 3.11 \
	  --all-extras --group dev --upgrade pyproject.toml -o requirements.lock

lint: $(STAMP)  ## style, types, layers, drift of generated files
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "lint: run 'make format'" >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary scheduler operator bot client demo examples tests benchmarks tools protos/generate.py
	@$(BIN)/lint-imports --no-cache >/tmp/lint-imports.$$$$ || { cat /tmp/lint-imports.$$$$; exit 1; }; rm -f /tmp/lint-imports.$$$$
	@$(BIN)/python protos/generate.py --check
	@$(BIN)/python -m buildgrid_scheduler.config.reference --check docs/configuration.md
	@$(BIN)/python -m buildgrid_scheduler.server.metrics.page --check docs/metrics.md
	@$(BIN)/python -m buildgrid_operator.api.generate --check
	@$(BIN)/python tools/charts.py --check
	@echo "lint: clean"

format: $(STAMP)  ## mend what can be mended by a program
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

test: $(STAMP)  ## all tests that need no cluster, against an embedded PostgreSQL (or DATABASE_URL)
	@GRPC_VERBOSITY=NONE $(BIN)/pytest -n $${PYTEST_WORKERS:-4} --dist loadgroup

fuzz: $(STAMP)  ## 10,000 random messages to each service (FUZZ=N: as many); some ten minutes
	@FUZZ=$${FUZZ:-10000} GRPC_VERBOSITY=NONE $(BIN)/pytest -n 0 -rP tests/integration/fuzz

acceptance: $(STAMP)  ## real Bazel builds (needs bazel on PATH)
	@GRPC_VERBOSITY=NONE $(BIN)/pytest tests/acceptance

test-cluster: $(STAMP)  ## tests against the Kubernetes cluster of KUBECONFIG, in namespaces of their own; or one of kind or k3d
	@GRPC_VERBOSITY=NONE PYTEST="$(BIN)/pytest" bash tools/test_cluster.sh bash tools/cluster_tests.sh

dev-cluster: $(STAMP)  ## run the operator from source against the cluster of KUBECONFIG, with a Scheduler and its bots
	@VENV="$(VENV)" bash tools/dev_cluster.sh

images: $(STAMP)  ## build the images with docker or buildah (REGISTRY, VERSION, TARGETS, PLATFORM)
	@REGISTRY="$(REGISTRY)" VERSION="$(VERSION)" TARGETS="$(TARGETS)" PLATFORM="$(PLATFORM)" BUILDER="$(BUILDER)" VENV="$(VENV)" bash tools/images.sh

demo: $(STAMP)  ## start a farm on this machine and build a C project on it (CLIENT=bazel: with Bazel)
	@$(BIN)/python demo/run.py $(if $(CLIENT),--client $(CLIENT))

bench: $(STAMP)  ## throughput, latency and CPU per job, beside the peer where it is present
	@$(BIN)/python -m benchmarks.compare

clean:  ## forget .venv and the demo's data
	rm -rf $(VENV) demo-data .mypy_cache .ruff_cache

.PHONY: help install protos docs lock lint format test fuzz acceptance test-cluster dev-cluster images demo bench clean
