# `make demo` and `make test` each set up their own virtual environment from nothing, then run.
PYTHON ?= python3.11
TORCH ?= torch==2.14.1 torchvision==0.29.1
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint benchmark clean

# One stamp per environment: it is made again whenever the dependencies change.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[saliency,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps solo-learn==1.0.2
	touch $@

demo: $(VENV)/.installed
	$(BIN)/suite run --grid paper_table1 --profile demo --runs runs/demo --method random --method byol --method byol_cvsa
	$(BIN)/suite report --grid paper_table1 --runs runs/demo

# One test process per core, each with one thread: together they are done in half the time.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

benchmark: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/bench_cli.py
	$(BIN)/python tests/benchmarks/bench_throughput.py
	$(BIN)/python tests/benchmarks/bench_engine.py
	$(BIN)/python tests/benchmarks/bench_overhead.py
	$(BIN)/python tests/benchmarks/bench_workers.py
	$(BIN)/python tests/benchmarks/bench_sharing.py
	$(BIN)/python tests/benchmarks/bench_report.py
	$(BIN)/python tests/benchmarks/bench_data.py

clean:
	rm -rf $(VENV) runs/demo
