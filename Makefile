# `make demo`, `make bench`, `make docs` and `make test` each do all set-up: a virtual environment in .venv, made once and brought up to date
# when pyproject.toml or setup.cfg change.

PYTHON ?= python3
BIN := .venv/bin
LAYOUT := pyproject.toml setup.cfg

.PHONY: demo bench docs test check clean

demo: .venv/.demo
	$(BIN)/python examples/demo.py

# Where the numbers go: bench_output/*.json, and the tables of docs/benchmarks.md as *.md. Takes about an hour and a half on two cores.
bench: .venv/.bench
	$(BIN)/python -m benchmarks.accuracy --test 1000 --work bench_output/files --output bench_output/accuracy.json
	$(BIN)/python -m benchmarks.ablation --work bench_output/files --output bench_output/ablation.json
	$(BIN)/python -m benchmarks.calibration --work bench_output/files --output bench_output/calibration.json
	$(BIN)/python -m benchmarks.search --work bench_output/files --output bench_output/search.json
	$(BIN)/python -m benchmarks.search_plans --work bench_output/files --output bench_output/search_plans.json
	$(BIN)/python -m benchmarks.observers --work bench_output/files --output bench_output/observers.json
	$(BIN)/python -m benchmarks.full_int8 --work bench_output/files --output bench_output/full_int8.json
	$(BIN)/python -m benchmarks.latency --work bench_output/files --output bench_output/latency.json
	$(BIN)/python -m benchmarks.granularity --work bench_output/files --output bench_output/granularity.json --figure bench_output/granularity.svg
	$(BIN)/python -m benchmarks.equal_settings --work bench_output/files --output bench_output/equal_settings.json
	$(BIN)/python -m benchmarks.gptq_time --work bench_output/files --output bench_output/gptq_time.json
	$(BIN)/python -m benchmarks.data_order --work bench_output/files --output bench_output/data_order.json
	$(BIN)/python -m benchmarks.package_models
	$(BIN)/python -m benchmarks.fine_tuning --output bench_output/fine_tuning.json
	$(BIN)/python -m benchmarks.parity --output bench_output/parity.json

# The pages and the API reference as a site in site/. A dead link or an unknown name is an error. The theme is looked after
# until May 2027, and says so at each build unless it is told not to.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# TOSA's reference model needs another NumPy; the tests install it into a folder of its own. TFMOT asks for an older
# absl-py than it needs, and switches tf.keras: it is installed in a folder of its own, for the processes that test it.
# Byte code is kept wherever that is switched off: each worker and each child would compile what it imports.
test: export TFQ_TOSA_VENV ?= .venv/tosa
test: export TFQ_TFMOT ?= .venv/tfmot
test: check .venv/.tfmot
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 -q

check: .venv/.test
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

.venv/.tfmot: | .venv/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv/tfmot tensorflow-model-optimization==0.8.1 dm-tree
	touch $@

clean:
	rm -rf .venv build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

.venv/.made:
	$(PYTHON) -m venv --clear .venv
	touch $@

.venv/.demo: EXTRAS := keras,report,demo
.venv/.bench: EXTRAS := keras,bench
.venv/.docs: EXTRAS := docs
.venv/.test: EXTRAS := test
.venv/.demo .venv/.bench .venv/.docs .venv/.test: $(LAYOUT) | .venv/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	touch $@
