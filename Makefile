# `make repro` reproduces the experiment and ends with its table, and whether its figures are the committed ones.
# `make test` runs the tests. Both make .venv first, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# DVC runs `python src/…` through a shell: the python it finds must be the one of the virtual environment.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: repro test lint types constraints clean-venv

repro: $(VENV)/installed
	$(BIN)/dvc repro
	$(BIN)/python src/compare.py --show
	$(BIN)/python src/compare.py --repeat

test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) types

types: $(VENV)/installed-dev
	$(BIN)/mypy

# The stamps are files in the environment: it is made once, and again when a pin changes.
$(VENV)/installed: requirements.txt constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/pip install -r requirements-dev.txt -c constraints.txt
	touch $@

constraints: $(VENV)/installed-dev
	{ grep '^#' constraints.txt; $(BIN)/pip freeze --all --exclude pip | sed 's/+cpu$$//'; } > constraints.new
	mv constraints.new constraints.txt

clean-venv:
	rm -rf $(VENV)
