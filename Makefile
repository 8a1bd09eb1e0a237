# `make` makes the article from nothing; `make test` runs lint and tests. Both make .venv first.
PYTHON ?= python3
CONFIG ?= config/config.yaml
DATA_DIR ?=
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
PROFILE ?=
SNAKEMAKE = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --configfile $(CONFIG) \
	$(if $(PROFILE),--profile $(PROFILE),--cores $(CORES)) \
	$(if $(DATA_DIR),--config data_dir=$(DATA_DIR))

.DEFAULT_GOAL := reproduce
.PHONY: reproduce test test-all lint report pages bench pins clean

reproduce: $(VENV)/installed
	$(SNAKEMAKE)

test: MARKERS = not faults
test test-all: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	DATA_DIR=$(DATA_DIR) PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --dist loadfile -m "$(MARKERS)"

# pip installs uv and the build of torch made for this machine; uv the exact rest, each file's sha256 verified.
# A uv of this very version on the path serves as well; an index that does not answer is replaced by uv's cache.
UV_PINNED = $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' envs/installer.txt)
UV_PIP = VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q -c envs/hashes.txt -b envs/hashes.txt
UV_INSTALL = install() { $(UV_PIP) "$$@" || { echo "installing from uv's cache alone" >&2; $(UV_PIP) --offline "$$@"; }; }; install
$(VENV)/installed: pyproject.toml envs/hashes.txt envs/installer.txt envs/bootstrap.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	case "$$(uv --version 2>&1) " in "uv $(UV_PINNED) "*) ln -sf "$$(command -v uv)" $(BIN)/uv;; \
	*) $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r envs/installer.txt;; esac
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r envs/bootstrap.txt
	$(UV_INSTALL) -e . $(addprefix --group ,sim train analysis paper workflow cluster test)
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	$(SNAKEMAKE) --lint

report: reproduce  # every figure with its caption, the configuration and run times in one file, RESULTS/report.html
	$(SNAKEMAKE) --report $(RESULTS)/report.html

pages: reproduce  # the article's pages as pictures, under RESULTS/paper
	$(BIN)/python -m analysis.article --out $(RESULTS)/paper/article.pdf --pages $(RESULTS)/paper/pages

RESULTS = $(shell $(BIN)/python -c 'import yaml; print({**yaml.safe_load(open("config/config.yaml")), **yaml.safe_load(open("$(CONFIG)"))}["results"])')

bench: $(VENV)/installed
	$(UV_INSTALL) -e . $(addprefix --group ,sim train analysis bench)
	$(BIN)/python -m bench.kernels
	$(BIN)/python -m bench.training
	$(BIN)/python -m bench.feature_noise

# tests, speed and the next missing records; GPU_PYTHON=python3 takes an interpreter that has what it needs
gpu: $(if $(GPU_PYTHON),,$(VENV)/installed)
	PYTHON=$(or $(GPU_PYTHON),$(BIN)/python) DATA="$(if $(DATA_DIR),--data-dir $(DATA_DIR))" bash records/measure.sh

pins: $(VENV)/installed  # new versions of everything, within the ranges of pyproject.toml
	$(BIN)/python envs/pins.py --upgrade

clean:
	rm -rf results results-* .snakemake
