# `make help` lists the targets. Needs only Python 3.11+, make and git: the rest is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := .dev/bin/uv
READY := $(VENV)/.ready
export UV_PYTHON_DOWNLOADS := never
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
# One more than there are cores: tests wait for processes and disks.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)
# Each row has a deployment of its own: two side by side are what two cores can bear.
FAULT_WORKERS ?= 2

# Slow tests whose product code runs in the test's own process: their coverage counts.
IN_PROCESS := tests/unit tests/contract tests/integration tests/fault

.DEFAULT_GOAL := help
.PHONY: help run setup test faults check check-static format schema migration lock bench bench-growth bench-pickup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## start Taskyard on this machine: web, worker and janitor in one process
	@$(BIN)/taskyard dev $(ARGS)

setup: $(READY) ## make .venv/ with everything that is needed

$(UV): tools/bootstrap.lock
	@tools/require.sh $(PYTHON)
	@$(PYTHON) -m venv .dev
	@.dev/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/bootstrap.lock
	@touch $@

$(READY): requirements.lock pyproject.toml hatch_build.py graphql/graphiql/package-lock.json | $(UV)
	@tools/require.sh $(PYTHON)
	@[ -x $(BIN)/python ] || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --require-hashes requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

check: $(READY) check-static ## format, lint, types, import arrows, fast tests
	@$(BIN)/pytest -q -n $(WORKERS) -m 'not slow and not fault'

format: $(READY) ## format the code and mend what the linter can
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

test: $(READY) check-static ## all checks and all tests
	@$(BIN)/pytest -q -n $(WORKERS) -m 'not slow and not fault' --cov --cov-report= --cov-fail-under=0
	@$(BIN)/pytest -q -n $(WORKERS) -m 'slow and not fault' --dist worksteal $(IN_PROCESS) \
		--cov --cov-append --cov-report=term:skip-covered
	@$(BIN)/pytest -q -n $(WORKERS) -m 'slow and not fault' --dist loadfile $(IN_PROCESS:%=--ignore=%)

faults: $(READY) ## what takes minutes: simulated histories, real faults; writes docs/reliability.md: make faults ONLY="1 6"
	@rm -rf .faults
	@TASKYARD_FAULT_RECORDS=$(CURDIR)/.faults TASKYARD_FAULT_ROWS="$(ONLY)" \
		$(BIN)/pytest -q -n $(FAULT_WORKERS) -m fault; code=$$?; \
		$(BIN)/python -m tests.fault.report .faults && exit $$code

check-static: $(READY)
	@$(BIN)/ruff format --quiet --check . || { echo 'run: make format'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports > /dev/null || $(BIN)/lint-imports

bench: $(READY) ## measure the embedded default: submissions, throughput, pickup latency
	@$(BIN)/python loadtests/bench.py $(ARGS)

bench-growth: $(READY) ## measure what a full queue costs: claims, pages, submissions at 1 k, 100 k and 1 M tasks
	@PYTHONPATH=. $(BIN)/python loadtests/growth.py $(ARGS)

bench-pickup: $(READY) ## measure how soon an idle worker begins what is submitted, with Redis and without
	@PYTHONPATH=. $(BIN)/python loadtests/pickup.py $(ARGS)

schema: $(READY) ## write tables.py and the SDL from their sources, and say if a migration is missing
	@$(BIN)/python tools/make_schema.py

migration: $(READY) ## write the next migration: make migration NAME="what it does"
	@$(BIN)/python tools/make_migration.py "$(NAME)"

lock: $(UV) ## renew requirements.lock (everything) and requirements-runtime.lock from pyproject.toml
	@$(UV) lock --quiet
	@$(UV) export --quiet --frozen --no-emit-project --all-groups --no-header -o requirements.lock
	@$(UV) export --quiet --frozen --no-emit-project --no-default-groups --no-header -o requirements-runtime.lock

clean: ## remove what was set up, built and cached
	rm -rf .venv .dev uv.lock dist .faults .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -rf tools/prisma/node_modules tests/browser/node_modules graphql/taskyard_graphql/static
