# `make` alone explains itself. Everything lives in .venv; nothing is installed outside this folder.

PYTHON ?= python3
ARGS ?=
SEED ?= 1
ROUNDS ?= 1
VENV := .venv
BIN := $(VENV)/bin

# One environment, filled twice: the product's packages for `run`, the developers' on top for the rest.
# Each stamp is newer than the lock file that it was filled from; a second call finds it and does nothing.
PRODUCT := $(VENV)/.product
DEVELOPMENT := $(VENV)/.development
MEASURING := $(VENV)/.measuring

INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --require-hashes

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench chaos format lock clean

help: ## explain these commands
	@printf 'Hookline\n\n'
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16
	@printf '\nARGS are passed on:      make run ARGS="--port 9000"     make test ARGS="-k signing"\n'
	@printf 'Another Python:          make setup PYTHON=python3.12\n'

setup: $(DEVELOPMENT) ## make .venv and install everything, development tools included

run: $(PRODUCT) ## start Hookline in one process, with a demo organization and key
	@exec $(BIN)/python -m app dev $(ARGS)

test: $(DEVELOPMENT) ## run the tests (PostgreSQL and Redis are tried where they are installed)
	$(BIN)/python -m pytest $(ARGS)

check: $(DEVELOPMENT) ## lint, formatting, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(MEASURING) ## measure speed: figures, tables and plots (ARGS="end_to_end --quick")
	$(BIN)/python -m benchmarks $(ARGS)

chaos: $(DEVELOPMENT) ## break everything under load and look for what is lost (SEED=1 ROUNDS=20)
	$(BIN)/python -m benchmarks.chaos --seed $(SEED) --rounds $(ROUNDS) $(ARGS)

format: $(DEVELOPMENT) ## mend what the linter and the formatter can mend themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Hashes and no addresses: any index will do, and only these very files. `ARGS=--upgrade` takes newer versions.
# Resolved for 3.11.0, universally: Debian 12's own 3.11.2 needs a package that 3.11.3 does not.
lock: ## pin the dependencies anew, after a change in pyproject.toml
	@uv=$$(mktemp -d) && trap 'rm -rf "$$uv"' EXIT && \
	$(PYTHON) -m venv "$$uv" && "$$uv/bin/pip" install --disable-pip-version-check --quiet uv && \
	compile() { "$$uv/bin/uv" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet $(ARGS) "$$@"; } && \
	compile --group dev --output-file requirements-dev.lock && \
	compile --constraints requirements-dev.lock --output-file requirements.lock && \
	compile --group dev --group bench --constraints requirements-dev.lock --output-file requirements-bench.lock

clean: ## forget .venv and every cache; the data of `make run` stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache test-artifacts
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Hookline needs Python 3.11 or newer; $(PYTHON) --version says: $$($(PYTHON) --version 2>&1 | tail -n 1)." \
			"Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python's venv module is missing here; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(PRODUCT): requirements.lock | $(BIN)/python
	@echo "Installing what Hookline runs on (once, about half a minute)"
	@$(INSTALL) -r requirements.lock
	@touch $@

$(DEVELOPMENT): requirements-dev.lock $(PRODUCT) | $(BIN)/python
	@echo "Installing the development tools (once, about a minute)"
	@$(INSTALL) -r requirements-dev.lock
	@touch $@

$(MEASURING): requirements-bench.lock $(DEVELOPMENT) | $(BIN)/python
	@echo "Installing what draws the plots (once)"
	@$(INSTALL) -r requirements-bench.lock
	@touch $@
