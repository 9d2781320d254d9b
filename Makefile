# Everything needs Python 3.11+ and make, nothing else. `make help` lists the targets.
# A certain Python: make PYTHON=python3.13 test      More words for pytest: make test-sqlite ARGS="-k queue -x"

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
DEMO_STAMP := $(VENV)/.installed-demo

.DEFAULT_GOAL := help
.NOTPARALLEL:

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(STAMP) ## The virtual environment, with everything needed to develop

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, e.g.: make PYTHON=python3.11 venv" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[binary,dev]"
	@touch $@

.PHONY: demo
demo: $(DEMO_STAMP) ## The shop until Ctrl-C; with ONCE=1 without a person: orders, SIGKILL half way, a report
	@$(BIN)/python -m testproject.demo $(if $(ONCE),--once)

# What the demo needs is quicker to install than what developers need; who has that has both.
$(DEMO_STAMP): pyproject.toml | $(BIN)/python
	@test $(STAMP) -nt pyproject.toml || $(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[binary]"
	@touch $@

.PHONY: test
test: venv lint types floors migrations-check test-sqlite test-postgres ## Everything: lint, types, floors, migrations, the suite on SQLite and on PostgreSQL

.PHONY: lint
lint: venv ## Style: ruff check, ruff format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: format
format: venv ## Repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: types
types: venv ## Types: mypy, strict
	$(BIN)/mypy

.PHONY: floors
floors: venv ## Architecture: imports go down only
	$(BIN)/lint-imports

.PHONY: migrations-check
migrations-check: venv ## Models and migrations agree
	DATABASE_URL=sqlite:///:memory: $(BIN)/python manage.py makemigrations --check --dry-run

.PHONY: test-sqlite
test-sqlite: venv ## The suite on SQLite
	DATABASE_URL= $(BIN)/python -m pytest $(ARGS)

.PHONY: test-postgres
test-postgres: venv ## The suite on PostgreSQL: DATABASE_URL, or an embedded server
	@if [ -n "$$DATABASE_URL" ]; then \
		$(BIN)/python -m pytest $(ARGS); \
	else \
		$(BIN)/python -m tests.postgres -- $(BIN)/python -m pytest $(ARGS); \
	fi

.PHONY: coverage
coverage: venv ## Branch coverage of both suites together, workers included
	$(BIN)/coverage erase
	DATABASE_URL= $(BIN)/coverage run -m pytest $(ARGS)
	@if [ -n "$$DATABASE_URL" ]; then \
		$(BIN)/coverage run -m pytest $(ARGS); \
	else \
		$(BIN)/python -m tests.postgres -- $(BIN)/coverage run -m pytest $(ARGS); \
	fi
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: bench
bench: venv ## How fast it is here, beside PostgreSQL itself and others: docs/benchmarks.md; ARGS="drain --reps 1"
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: docs
docs: $(DOCS_STAMP) ## The documentation, as HTML in docs/_build
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable ".[docs]"
	@touch $@

.PHONY: clean
clean: ## Remove what tools and builds left behind (the environment stays)
	rm -rf build dist *.egg-info docs/_build htmlcov .coverage .coverage.* .hypothesis
	rm -rf .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
