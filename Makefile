# `make` makes the article from nothing; `make test` runs lint and tests. Both make .venv first.
PYTHON ?= python3
CONFIG ?= config/config.yaml
DATA_DIR ?=
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
SNAKEMAKE = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/snakemake --cores $(CORES) --configfile $(CONFIG) \
	$(if $(DATA_DIR),--config data_dir=$(DATA_DIR))

.DEFAULT_GOAL := reproduce
.PHONY: reproduce test lint pages bench pins clean

reproduce: $(VENV)/installed
	$(SNAKEMAKE)

test: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --dist loadfile

# torch is installed first, by pip, so that each machine takes the build made for it; uv installs the exact rest
$(VENV)/installed: pyproject.toml envs/constraints.txt envs/bootstrap.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r envs/bootstrap.txt
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q -c envs/constraints.txt -e '.[sim,train,analysis,paper,workflow,test]'
	touch $@

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(SNAKEMAKE) --lint

pages: reproduce  # the article's pages as pictures, under RESULTS/paper
	$(BIN)/python -m analysis.article --out $(RESULTS)/paper/article.pdf --pages $(RESULTS)/paper/pages

RESULTS = $(shell $(BIN)/python -c 'import yaml; print({**yaml.safe_load(open("config/config.yaml")), **yaml.safe_load(open("$(CONFIG)"))}["results"])')

bench: $(VENV)/installed
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q -c envs/constraints.txt -e '.[sim,train,analysis,bench]'
	$(BIN)/python -m bench.kernels

pins: $(VENV)/installed  # new versions of everything, within the ranges of pyproject.toml
	echo "torch ; sys_platform == 'never'" > $(VENV)/no-torch.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --upgrade -q pyproject.toml --no-header --no-annotate \
		--overrides $(VENV)/no-torch.txt --extra sim --extra train --extra analysis --extra paper --extra workflow \
		--extra test --extra bench -o $(VENV)/pins.txt
	(echo "# Exact versions of everything but torch. Made by 'make pins'; edit pyproject.toml, not this file."; \
		grep -v "'never'" $(VENV)/pins.txt) > envs/constraints.txt

clean:
	rm -rf results results-* .snakemake
