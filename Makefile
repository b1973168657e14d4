# make demo: install, then run the main job on built-in data.
# make test: install, then run every test that needs no browser, cluster or server.   make test-system: the others.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-fast test-system lint bench clean

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

bench: $(INSTALLED)
	$(BIN)/python benchmarks/goals.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) memaudit-demo
