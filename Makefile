# Nothing a user sets is expanded in a shell line: settings reach the programs as environment
# variables, exactly as written, so that globs, spaces, quotes and $ survive.
SETTINGS := TRANSACTIONS PRODUCTS LAKE_PATH DUCKDB_PATH DUCKDB_THREADS DUCKDB_MEMORY_LIMIT \
    DASK_SCHEDULER MAX_REJECT_FRACTION PRODUCT
$(foreach name,$(SETTINGS),$(if $(filter command line,$(origin $(name))),\
    $(eval override $(name) := $$(value $(name)))$(eval export $(name))))

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help build test lookup lint requirements clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(BIN)/.installed ## flatten, dbt build, publish; TRANSACTIONS=... PRODUCTS=... LAKE_PATH=... DUCKDB_PATH=...
	@$(BIN)/python scripts/build.py

test: $(BIN)/.installed-dev ## run every test
	@$(BIN)/python -m pytest

lookup: $(BIN)/.installed ## recommendations for PRODUCT=<id>; without it, ask for ids
	@$(BIN)/python scripts/recommend.py $${PRODUCT:+-- "$$PRODUCT"}

lint: $(BIN)/.installed-dev ## check the style of Python and SQL
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/sqlfluff lint models tests macros

requirements: ## compile the pinned requirements anew (needs uv)
	uv pip compile --universal --python-version 3.11 requirements.in -o requirements.txt
	uv pip compile --universal --python-version 3.11 requirements-dev.in -o requirements-dev.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or later is needed; name one with make PYTHON=...")'
	@$(PYTHON) -m venv .venv

$(BIN)/.installed: requirements.txt | $(BIN)/python
	@echo 'Installing pinned dependencies into .venv'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(BIN)/.installed-dev: requirements-dev.txt requirements.txt | $(BIN)/python
	@echo 'Installing pinned dependencies for the tests into .venv'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(BIN)/.installed
