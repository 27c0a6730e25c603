# `make demo` and `make test` each set up their own virtual environment from nothing, then run.
# PYTHON may name an interpreter; otherwise the first of CANDIDATES that is Python 3.11 to 3.14.
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3 python
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in $(CANDIDATES); do if $$p -c '$(SUPPORTED)' 2>/dev/null; then echo $$p; break; fi; done)
TORCH ?= torch==2.14.1 torchvision==0.29.1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo docs test test-gpu test-lowest lint benchmark clean

# The file .installed stands for the environment: it is rebuilt whenever the dependencies change.
$(VENV)/.installed: pyproject.toml
	@test -x $(BIN)/python || $(MAKE) --no-print-directory .python-found
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e '.[saliency,dev]'
	$(PIP) --no-deps solo-learn==1.0.2
	touch $@
	@echo "To have the command suite in this shell: . $(BIN)/activate"

.PHONY: .python-found
.python-found:
	@test -n '$(PYTHON)' || { echo "error: no Python 3.11 to 3.14 was found (tried: $(CANDIDATES))."; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12 demo"; exit 1; }
	@'$(PYTHON)' -c '$(SUPPORTED)' || { echo "error: $(PYTHON) is not a Python 3.11 to 3.14."; exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' || { echo "error: $(PYTHON) cannot make virtual environments."; \
	  echo "On Debian and Ubuntu: apt-get install $(notdir $(PYTHON))-venv"; exit 1; }

demo: $(VENV)/.installed
	$(BIN)/suite run --grid paper_table1 --profile demo --runs runs/demo --method random --method byol --method byol_cvsa
	$(BIN)/suite report --grid paper_table1 --runs runs/demo

# The documentation site in site/, with warnings as errors; open site/index.html.
docs: $(VENV)/.installed
	$(BIN)/python -m mkdocs build --strict

# One test process per core, each with one thread; files in the order of tests/conftest.py. A test that hangs ends its
# process (pyproject.toml); a second one ends the run.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 1 -m "not gpu"

# On a machine with a CUDA device, one process at a time; tests/gpu/conftest.py.
test-gpu: $(VENV)/.installed
	$(BIN)/pytest tests/gpu

# The tests on the lowest supported version of every main dependency, in an environment of its own (Python 3.11).
test-lowest:
	test -x .venv-lowest/bin/python || python3.11 -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check -c constraints/lowest.txt -e '.[saliency,dev]'
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --no-deps solo-learn==1.0.2
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest -n auto --dist loadfile --ignore tests/test_style.py

lint: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

benchmark: $(VENV)/.installed
	$(BIN)/python tests/benchmarks/bench_cli.py
	$(BIN)/python tests/benchmarks/bench_throughput.py
	$(BIN)/python tests/benchmarks/bench_feed.py --record
	$(BIN)/python tests/benchmarks/bench_engine.py
	$(BIN)/python tests/benchmarks/bench_overhead.py
	$(BIN)/python tests/benchmarks/bench_workers.py
	$(BIN)/python tests/benchmarks/bench_sharing.py
	$(BIN)/python tests/benchmarks/bench_report.py
	$(BIN)/python tests/benchmarks/bench_store.py
	$(BIN)/python tests/benchmarks/bench_data.py --imagenet 1281167

clean:
	rm -rf $(VENV) .venv-lowest runs/demo site
