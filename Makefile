# `make` makes the article from nothing; `make test` runs lint and tests. Both make .venv first.
PYTHON ?= python3
CONFIG ?= config/config.yaml
DATA_DIR ?=
CORES ?= all
PROFILE ?=
VENV := .venv
BIN := $(VENV)/bin
# A value as one word of the shell, whatever blanks and apostrophes are in it.
quote = '$(subst ','\'',$(1))'
ON_PATH = PATH=$(call quote,$(CURDIR)/$(BIN)):"$$PATH"
SNAKEMAKE = $(ON_PATH) $(BIN)/python -m snakemake --configfile $(call quote,$(CONFIG)) \
	$(if $(PROFILE),--profile $(call quote,$(PROFILE)),--cores $(CORES)) \
	$(if $(DATA_DIR),--config $(call quote,data_dir='$(subst ','',$(DATA_DIR))'))
RESULTS = $(shell $(BIN)/python -m common.results name --configuration $(call quote,$(CONFIG)))

# Dozens of processes import the same packages, which uv installs uncompiled: the first one keeps what it compiles.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := reproduce
.PHONY: reproduce test test-all test-avx2 lint report pages api claims bench gpu pins schema clean

reproduce: $(VENV)/installed
	@$(BIN)/python -m common.results name --configuration $(call quote,$(CONFIG)) > /dev/null  # one line if it is no configuration
	$(SNAKEMAKE)
	@$(BIN)/python -m common.results show --configuration $(call quote,$(CONFIG))

# Ends whatever a test does: one that waits fails after TEST_SECONDS, one whose process dies ends the run (with loadfile,
# xdist would wait for ever for the rest of its file); pyproject.toml and tests/conftest.py see to the other ways to hang.
TEST_SECONDS = 1200
test: MARKERS = not faults
test-avx2: PLAYING = $(BIN)/python -m tests.smaller_processor  # every test, as on a processor without AVX-512
test test-all test-avx2: $(VENV)/installed  # what takes longest of lint runs beside the tests, and is shown if it complains
	$(STYLE)
	complaints=$$(mktemp); { $(STRUCTURE); } > "$$complaints" 2>&1 & checker=$$!; \
	DATA_DIR=$(call quote,$(DATA_DIR)) $(ON_PATH) $(PLAYING) $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0 \
		--timeout $(TEST_SECONDS) -m "$(MARKERS)"; tests=$$?; \
	wait $$checker || { cat "$$complaints"; tests=1; }; rm -f "$$complaints"; exit $$tests

# pip installs uv and the build of torch made for this machine; uv the exact rest, each file's sha256 verified.
# A uv of this very version on the path serves as well; an index that does not answer is replaced by uv's cache.
UV_PINNED = $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' envs/installer.txt)
UV_PIP = VIRTUAL_ENV=$(call quote,$(CURDIR)/$(VENV)) $(BIN)/uv pip install -q -c envs/hashes.txt -b envs/hashes.txt
UV_INSTALL = install() { $(UV_PIP) "$$@" || { echo "installing from uv's cache alone" >&2; $(UV_PIP) --offline "$$@"; }; }; install
$(VENV)/installed: pyproject.toml envs/hashes.txt envs/installer.txt envs/bootstrap.txt
	$(call quote,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(call quote,$(PYTHON)) -m venv $(VENV)
	case "$$(uv --version 2>&1) " in "uv $(UV_PINNED) "*) ln -sf "$$(command -v uv)" $(BIN)/uv;; \
	*) $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r envs/installer.txt;; esac
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r envs/bootstrap.txt
	$(UV_INSTALL) -e . $(addprefix --group ,sim train analysis paper workflow cluster docs test)
	touch $@

STYLE = $(BIN)/ruff check && $(BIN)/ruff format --check
STRUCTURE = $(BIN)/python -m snakefmt --check . && $(BIN)/lint-imports && $(SNAKEMAKE) --lint && $(BIN)/python -m mypy
lint: $(VENV)/installed
	$(STYLE)
	$(STRUCTURE)

report: reproduce  # every figure with its caption, the configuration and run times in one file, RESULTS/report.html
	$(SNAKEMAKE) --report $(RESULTS)/report.html
	@$(BIN)/python -m common.results show --configuration $(call quote,$(CONFIG))

pages: reproduce  # the article's pages as pictures, under RESULTS/paper
	$(BIN)/python -m analysis.article --out $(RESULTS)/paper/article.pdf --pages $(RESULTS)/paper/pages

api: $(VENV)/installed  # a page for every function and class of the library, docs/api/index.html
	$(BIN)/python -m docs.make_api

claims: $(VENV)/installed  # docs/claims.md, from docs/claims.yaml
	$(BIN)/python -m docs.make_claims

bench: $(VENV)/installed
	$(UV_INSTALL) -e . $(addprefix --group ,sim train analysis bench)
	$(BIN)/python -m bench.kernels
	$(BIN)/python -m bench.training
	$(BIN)/python -m bench.feature_noise
	$(BIN)/python -m bench.overfitting

# tests, speed and the next missing records; GPU_PYTHON=python3 takes an interpreter that has what it needs
gpu: $(if $(GPU_PYTHON),,$(VENV)/installed)
	PYTHON=$(call quote,$(or $(GPU_PYTHON),$(BIN)/python)) DATA_DIR=$(call quote,$(DATA_DIR)) bash records/measure.sh

pins: $(VENV)/installed  # new versions of everything, within the ranges of pyproject.toml
	$(BIN)/python envs/pins.py --upgrade

schema: $(VENV)/installed  # config/config.schema.yaml, docs/settings.md and the derivatives of formulas, from the programs
	$(BIN)/python -m config.make_derivatives
	$(BIN)/python -m config.make_schema

clean:  # what CONFIG has made; `make clean RESULTS=results-full` names another folder of results
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(call quote,$(PYTHON))) -m common.results remove \
	$(if $(filter command line,$(origin RESULTS)),--folder $(call quote,$(RESULTS)),--configuration $(call quote,$(CONFIG)))
