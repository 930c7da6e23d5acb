# make demo | lab | explore | test | check | bench | bench-speed | figures | format | clean
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROFILE ?= demo
OUT ?= runs/$(PROFILE)
LAB_OPTIONS ?=
INDEX := /lab/tree/notebooks/README.md
READY := $(VENV)/ready
# One thread a test process: the tests run in parallel processes instead, each file in one of them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo lab explore test check lint bench bench-speed figures format clean

demo: $(READY)
	$(BIN)/ddid run $(PROFILE) --out $(OUT) --resume

lab: $(READY)
	$(BIN)/jupyter lab --LabApp.app_settings_dir=notebooks/lab --LabApp.default_url=$(INDEX) $(LAB_OPTIONS)

explore: $(READY)
	$(BIN)/ddid explore $(OUT)

test: lint
	$(PYTEST) --durations 10

check: lint
	$(PYTEST) -m "not slow and not notebook" --durations 10

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

figures: demo
	cp $(OUT)/metrics.json figures/results/demo.json
	for folder in $(OUT)/*/figures; do cp $$folder/*.png figures/; done
	$(BIN)/ddid tables

bench: $(READY)
	$(BIN)/ddid sweep defenses --csv figures/results/defenses.csv

bench-speed: $(READY)
	$(BIN)/python -m tests.benchmarks.speed

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	@echo "Installing ddid and what it needs into $(VENV): about 2 GB, once, some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $(READY)
