# make demo: install, then run the main job on built-in data.
# make test: install, then run every test that needs no browser, cluster or server.   make test-system: the others.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal
INSTALLED := $(VENV)/.installed
CHECK := $(BIN)/check-jsonschema --builtin-schema vendor

.PHONY: demo test test-fast test-system lint fix build test-package bench clean

demo: $(INSTALLED)
	$(BIN)/memaudit demo --out memaudit-demo

test: $(INSTALLED)
	$(PYTEST) --ignore tests/system

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

clean:
	rm -rf $(VENV) memaudit-demo dist
