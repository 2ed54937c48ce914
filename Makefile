# `make demo` and `make test` set up everything they need in .venv; nothing is installed outside it.
PYTHON ?= python3
VENV   ?= .venv
EXTRAS ?= plot,web,formats,xfel,live,epics,fxs,backends,cdi,test,dev,docs
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

# one BLAS or OpenMP thread a process: the parallelism is ours, pytest's workers included
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: venv demo test test-all gpu lint format types layers docs bench faults release-check clean

venv: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -e '.[$(EXTRAS)]'
	touch $@

demo: $(STAMP)
	$(PY) -m framefold demo

test: $(STAMP)
	$(PY) -m pytest -n 2 --dist loadfile -m "not slow"

test-all: $(STAMP)
	$(PY) -m pytest -n 2 --dist loadfile

# the tests of GPU code on CuPy; without a device they are skipped
gpu: $(STAMP)
	$(PY) -m pip install --quiet -e '.[cuda]'
	$(PY) -m pytest -m gpu

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(STAMP)
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

types: $(STAMP)
	$(PY) -m mypy

layers: $(STAMP)
	$(VENV)/bin/lint-imports

docs: $(STAMP)
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html

# all benchmarks with quick defaults into bench_output; `make bench BENCH="--only udf --full"`
BENCH ?=
bench: $(STAMP)
	$(PY) benchmarks/run.py $(BENCH)

# everything that may go wrong, with the table for the documentation; about 15 minutes
faults: $(STAMP)
	$(PY) -m pip install --quiet -e '.[faults]'
	$(PY) faults/run.py --out docs/faults/table.md

# builds, installs with every extra into empty environments, and uses what was installed; needs the network;
# RELEASE="--pythons python3.13": on other versions too
RELEASE ?=
release-check: $(STAMP)
	$(PY) .ci/release.py $(RELEASE)

clean:
	rm -rf build dist docs/_build docs/auto_examples docs/gen_modules demo_output bench_output .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
