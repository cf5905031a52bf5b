# Everything a person types; `make help` lists it. Needs Linux, git, make and any Python 3.

.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
ARGS ?=
JOBS ?= 2
STRICT ?=
export STRICT

# uv installs the environments, and brings Python 3.11 where there is none.
UV := $(or $(shell command -v uv),.uv/bin/uv)
PY := .venv/bin/python
INSTALL := $(UV) pip install --quiet --no-deps
# With bytecode: TensorFlow then starts in 5 s instead of 12, also where nobody may write later.
LOCKED := $(INSTALL) --compile-bytecode --require-hashes
ELSEWHERE := airflow trainer s3 radosgw browser mlflow slow
unit := $(shell m="$(ELSEWHERE)"; echo "not $${m// / and not }")

##@ Use
.PHONY: help setup preflight demo clean
help: ## show this list
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: .venv/.package .venv-trainer/.made ## make both environments from the locks, with hashes (2.8 GB)

preflight: # before 3 GB are installed: is there room, and what will this take?
	@python3 include/demo/preflight.py $(ARGS)

demo: preflight setup $(if $(findstring --mlflow,$(ARGS)),setup-mlflow) ## three weeks under a real Airflow; ARGS=--once stops after the table, --fresh wipes
	$(PY) -m demo $(ARGS)

clean: ## remove environments and caches; workspaces stay
	rm -rf .venv .venv-trainer .venv-mlflow .uv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Work
.PHONY: setup-dev setup-mlflow test check test-radosgw bench bench-attacks bench-screening bench-weeks mutants lock
setup-dev: setup .venv/.dev ## add the development tools
setup-mlflow: .venv-mlflow/.made ## a real MLflow server, for the tests that want one

test: setup-dev ## the whole suite; STRICT=1 makes a skip a failure, ARGS goes to pytest
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not radosgw" $(ARGS)

check: setup-dev ## format, lint, types, import contracts, unit tests
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache
	$(PY) -m pytest -n $(JOBS) -q -m "$(unit)" $(ARGS)

test-radosgw: setup-dev ## the store against a real S3 server (Debian: radosgw ceph-mon ceph-osd ceph-mgr)
	$(PY) -m pytest -m radosgw $(ARGS)

bench: setup-dev ## seconds and memory of each step, with and without Airflow
	$(PY) tests/benchmarks/run.py $(ARGS)

bench-attacks: setup-dev ## who attacks, what was tried, what was stopped; ARGS goes to pytest
	$(PY) tests/benchmarks/attacks.py -n $(JOBS) --dist loadfile $(ARGS)

bench-screening: setup-dev ## what screening finds; BENCH_DIR=folder of the poisoning bench, ARGS=--peers and more
	$(PY) tests/benchmarks/screening.py --bench "$(BENCH_DIR)" $(ARGS)

bench-weeks: setup-dev ## months of attacked weeks through the real steps; DATA_DIR=folder of data sets, ARGS="--out folder"
	$(PY) -m tests.benchmarks.weeks --data "$(DATA_DIR)" $(ARGS)

mutants: setup-dev ## take each check out once and see its test go red
	$(PY) -m tests.mutants $(ARGS)

# In this order: the tools' versions follow requirements.lock. ARGS=--upgrade moves to newer releases.
COMPILE = $(UV) pip compile --quiet --generate-hashes --python-version 3.11 \
	--no-header --no-emit-index-url --no-emit-find-links
lock: | $(filter .uv/%,$(UV)) ## make the locks again
	for name in requirements{,-trainer,-dev,-mlflow,-cluster,-uv}; do \
		$(COMPILE) $(ARGS) $$name.txt -o $$name.lock || exit 1; done

##@ A team's stack
.PHONY: compose-secrets compose-base compose-test
compose-secrets: ## passwords, tokens and .env for docker compose; changes nothing that is there
	python3 include/deploy/make_secrets.py $(ARGS)

compose-base: ## stand-ins for the stack's images from Debian packages, where no registry is reachable (root)
	tests/compose/engine.sh tests/compose/stand_ins.sh

compose-test: setup-dev ## the whole stack: three weeks on its workers, one of them killed; ARGS=--keep leaves a failure up
	tests/compose/engine.sh $(PY) tests/compose/run.py $(ARGS)

# What follows are stamps: an environment is made anew when its lock changes.
.uv/bin/uv: requirements-uv.lock
	@rm -rf .uv && python3 -m venv .uv || { rm -rf .uv; echo "make: python3 could not make a virtual environment." \
		"Install python3-venv (Debian, Ubuntu: apt install python3-venv) or uv, then run make again." >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $@

.venv/.made .venv-trainer/.made .venv-mlflow/.made: | $(filter .uv/%,$(UV))
.venv/.made: requirements.lock
.venv-trainer/.made: requirements-trainer.lock
.venv-mlflow/.made: requirements-mlflow.lock
.venv/.made .venv-trainer/.made .venv-mlflow/.made:
	@echo "Making $(@D) from $<"
	@rm -rf $(@D) && $(UV) venv --quiet --python 3.11 $(@D)
	@$(LOCKED) --python $(@D)/bin/python -r $<
	@touch $@

.venv/.package: pyproject.toml .venv/.made
	@$(INSTALL) --python $(PY) --no-build-isolation -e .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.package
	@echo "Adding $< to .venv"
	@$(LOCKED) --python $(PY) -r $<
	@touch $@
