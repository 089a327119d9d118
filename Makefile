# Two commands do everything: `make demo` and `make test`. Both set up .venv first, from locked versions.
PYTHON ?= python3
VENV ?= .venv
CORES ?= all

# Where torch comes from besides the default index. PyTorch's CPU wheels are 200 MB; what the default index has for
# Linux is the CUDA build and its libraries, several GB. For that one: make ... TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := phasevae tests benchmarks setup.py
KERNELS := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu)
SNAKEFILES := Snakefile workflow/Snakefile $(wildcard workflow/rules/*.smk)

.PHONY: demo paper build docs test test-unit test-slurm test-kills lint format setup clean

demo: setup
	$(BIN)/snakemake demo --configfile config/demo.yaml --cores $(CORES)
	$(BIN)/snakemake demo --configfile config/demo.yaml --cores $(CORES) --report results/report.html

paper: setup
	$(BIN)/snakemake paper --cores $(CORES)

# The native kernels beside the package's sources; PHASEVAE_BUILD=cpu or cuda fails where the default would leave out.
build: setup
	$(BIN)/python -m pip install --quiet --constraint requirements.lock 'setuptools>=77' ninja
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python setup.py --quiet build_ext --inplace

# The documentation site, in build/site; a link within it that leads nowhere fails.
docs: setup
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

test: setup
	$(BIN)/pytest

test-unit: setup
	$(BIN)/pytest -m "not workflow"

# The workflow through a real SLURM, which is installed (root, Debian) and started for it; skipped where that cannot be.
test-slurm: setup
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[workflow,slurm]'
	tests/slurm/run.sh $(BIN)/python

# A hundred kills of a small run, then every number against an undisturbed one: half an hour.
test-kills: setup
	$(BIN)/python benchmarks/kills.py $$(mktemp -d)/kills --kills 100

lint: setup
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/clang-format --dry-run --Werror $(KERNELS)
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/snakefmt $(SNAKEFILES)
	$(BIN)/clang-format -i $(KERNELS)

setup: $(STAMP)

# torch goes first, alone: then only torch is asked of the other index, and what it needs comes with the rest.
$(STAMP): requirements.lock pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit("phasevae needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --retries 1 $$(grep '^torch==' requirements.lock) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[workflow,dev]'
	touch $@

clean:
	rm -rf phasevae/_C.*.so phasevae/_build_info.json
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
