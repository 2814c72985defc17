# `make demo` and `make test` each do all set-up: a virtual environment in .venv, made once and brought up to date
# when pyproject.toml or setup.cfg change.

PYTHON ?= python3
BIN := .venv/bin
LAYOUT := pyproject.toml setup.cfg

.PHONY: demo test check clean

demo: .venv/.demo
	$(BIN)/python examples/digits.py

test: check
	$(BIN)/python -m pytest -n 2 -q

check: .venv/.test
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

.venv/.made:
	$(PYTHON) -m venv --clear .venv
	touch $@

.venv/.demo: EXTRAS := keras,report,demo
.venv/.test: EXTRAS := test
.venv/.demo .venv/.test: $(LAYOUT) | .venv/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	touch $@
