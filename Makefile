# make demo: install, then run the main job on built-in data.
# make test: install, then run every test that needs no browser, cluster or server.   make test-system: the others.
PYTHON ?= python3
VENV ?= .venv
VENV_LOWEST ?= .venv-lowest
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal
INSTALLED := $(VENV)/.installed
# make test-lowest: audit, arms, report, gate and loggers on constraints-lowest.txt, whose libraries may warn of old age.
LOWEST := $(VENV_LOWEST)/.installed
LOWEST_EXTRAS := clusters,fast,frames,locales,mlflow,quantize,tensorboard
LOWEST_TOOLS := pytest pytest-timeout pytest-xdist hypothesis junitparser xmlschema
LOWEST_TESTS := tests/integration/callbacks/test_audit_logger.py tests/integration/callbacks/test_outcome_recorder.py \
  tests/integration/cli/test_gate.py tests/integration/cli/test_run.py tests/integration/outcomes/test_damage.py \
  tests/integration/test_audit.py tests/integration/test_treatments.py tests/integration/treatments/test_own.py \
  tests/unit/compat tests/unit/gates tests/unit/loggers tests/unit/outcomes tests/unit/report tests/unit/sections \
  tests/unit/training/arms
CHECK := $(BIN)/check-jsonschema --builtin-schema vendor

.PHONY: demo test test-fast test-system test-lowest lint fix build test-package bench clean

demo: $(INSTALLED)
	$(BIN)/memaudit demo --out memaudit-demo

test: $(INSTALLED)
	$(PYTEST) --ignore tests/system

test-lowest: $(LOWEST)
	$(VENV_LOWEST)/bin/python -m pytest -q -n 2 --dist worksteal -W ignore::DeprecationWarning $(LOWEST_TESTS)

test-fast: $(INSTALLED)
	$(PYTEST) tests/unit tests/test_architecture.py

test-system: $(INSTALLED)
	$(PYTEST) tests/system

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pre-commit validate-config .pre-commit-config.yaml
	$(BIN)/pre-commit validate-manifest .pre-commit-hooks.yaml
	$(CHECK).github-actions action.yml
	$(CHECK).github-workflows .github/workflows/*.yml
	$(CHECK).github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(CHECK).github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(CHECK).citation-file-format --default-filetype yaml CITATION.cff

fix: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

test-package: $(INSTALLED)
	$(BIN)/python tools/check_package.py

bench: $(INSTALLED)
	$(BIN)/python benchmarks/goals.py

$(INSTALLED): pyproject.toml constraints.txt lightning_memaudit/version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(INSTALLED)

$(LOWEST): pyproject.toml constraints.txt constraints-lowest.txt lightning_memaudit/version.py
	$(PYTHON) -m venv $(VENV_LOWEST)
	$(VENV_LOWEST)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV_LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable ".[$(LOWEST_EXTRAS)]"
	$(VENV_LOWEST)/bin/python -m pip install --quiet --constraint constraints.txt $(LOWEST_TOOLS)
	touch $(LOWEST)

clean:
	rm -rf $(VENV) $(VENV_LOWEST) memaudit-demo dist
