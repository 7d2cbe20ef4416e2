# `make demo` and `make test` need Python and nothing else; `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo demo-gcp dev install install-dev test test-stack lint format bench screenshots lock clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.installed  ## Install, load six sample months into the embedded Postgres, and show them
	@$(BIN)/taxi demo

demo-gcp: $(VENV)/.installed-dev  ## The path into BigQuery without an account, on emulators
	@$(BIN)/python -m tests.emulators.demo

dev: $(VENV)/.installed  ## Serve the UI on http://127.0.0.1:3000
	@$(BIN)/taxi dev

install: $(VENV)/.installed  ## Install the locked packages into .venv

install-dev: $(VENV)/.installed-dev  ## The same with the tools of development

test: $(VENV)/.installed-dev  ## Run the tests
	@$(BIN)/pytest -n 2 --dist loadfile

test-stack: $(VENV)/.installed-dev  ## Run the compose stack for real, and kill its containers (needs a Docker engine)
	@$(BIN)/python -m tests.stack

lint: $(VENV)/.installed-dev  ## Check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed-dev  ## Put the code into the format that `make lint` asks for
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## Measure the load against its limits and peers (BENCH=--full for real sizes)
	@$(BIN)/python -m benchmarks.postgres $(BENCH)
	@$(BIN)/python -m benchmarks.backfill
	@$(BIN)/python -m benchmarks.bigquery $(BENCH)

screenshots: $(VENV)/.installed-dev  ## Take the pictures of the UI for the README (needs chromium)
	@$(BIN)/python -m docs.screenshots

# The lock names versions and hashes, no index: packages come from wherever pip is told to look.
lock: $(VENV)/.installed-dev  ## Resolve the dependencies anew, for all supported Pythons
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
		pyproject.toml --extra build -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
		pyproject.toml --extra build --extra kubernetes -c requirements.lock -o requirements-image.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
		pyproject.toml --extra build --extra dev -c requirements.lock -o requirements-dev.lock

clean:  ## Delete the installation's state: databases, history, raw files
	rm -rf "$$(readlink -f .taxi/postgres)" "$$(readlink -f .taxi/demo-gcp/postgres)" .taxi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or later is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 10) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "installing packages into $(VENV) (a minute or two, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@touch $@
