# Everything runs in .venv, made from a hash-pinned list.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: repro test check data-check install clean

# JOBS=4 runs four stages at a time; without it, as many as there are cores, or GPUs.
repro: install
	python stages/_repro.py $(JOBS)

# One process for the pipeline, which comes first, and one for all other tests.
test: install
	pytest -n 2 --dist loadfile --no-loadscope-reorder

check: install
	ruff format --check .
	ruff check .
	mypy
	lint-imports

# What is there, what is missing, and where to get it: make data-check PARAMS=params/paper.yaml
PARAMS ?= params.yaml
data-check: install
	snojoe data-check $(PARAMS)

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 install")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
