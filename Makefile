# Two commands do everything: `make demo` and `make test`. Both set up .venv first, from locked versions.
PYTHON ?= python3
VENV ?= .venv
CORES ?= all

# Where torch comes from besides the default index. PyTorch's CPU wheels are 200 MB; what the default index has for
# Linux is the CUDA build and its libraries, several GB. For that one: make ... TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint requirements.lock
EDITABLE := PHASEVAE_BUILD=off $(PIP) --no-build-isolation --editable
STAMP := $(VENV)/.installed
SOURCES := phasevae tests benchmarks setup.py workflow/schemas/generate.py
KERNELS := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu)
EMULATOR := $(wildcard tests/cuda_on_cpu/*.h tests/cuda_on_cpu/*.cpp tests/cpu_kernels/*.cpp)
SNAKEFILES := Snakefile workflow/Snakefile $(wildcard workflow/rules/*.smk)

# Packages are installed without bytecode: each module is compiled when it is first imported, which most never are.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo paper build docs schema test test-unit test-slurm test-kills lint format setup clean

# The kernels are compiled while the packages are installed. Without a compiler, PyTorch computes.
demo:
	@$(MAKE) --no-print-directory --jobs=2 $(STAMP) $(VENV)/.kernels
	$(BIN)/snakemake demo --configfile config/demo.yaml --cores $(CORES)
	$(BIN)/snakemake demo --configfile config/demo.yaml --cores $(CORES) --report results/report.html
	$(BIN)/phasevae summary results --datasets synthetic,digits

paper: setup
	$(BIN)/snakemake paper --cores $(CORES)
	$(BIN)/phasevae summary results --datasets gaussian,cifar10

# The native kernels, in the package's folder; PHASEVAE_BUILD=cpu or cuda fails where the default would leave out.
build: setup
	rm -f $(VENV)/.kernels
	@$(MAKE) --no-print-directory $(VENV)/.kernels

# The files that are generated from the typed configuration: its schema, and the table of keys in the documentation.
schema: setup
	$(BIN)/python workflow/schemas/generate.py

# The documentation site, in build/site; a link within it that leads nowhere fails.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# In pure PyTorch, also where the kernels are built: .ci/native tests these.
test: setup
	PHASEVAE_BACKEND=torch $(BIN)/pytest

test-unit: setup
	PHASEVAE_BACKEND=torch $(BIN)/pytest -m "not workflow"

# The workflow through a real SLURM, which is installed (root, Debian) and started for it; skipped where that cannot be.
test-slurm: $(VENV)/.slurm
	tests/slurm/run.sh $(BIN)/python

# A hundred kills of ten small runs, then every number against an undisturbed one: about an hour.
test-kills: setup
	$(BIN)/python benchmarks/kills.py $$(mktemp -d)/kills --series 10 --kills 10

lint: setup
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/snakefmt --check $(SNAKEFILES)
	$(BIN)/clang-format --dry-run --Werror $(KERNELS) $(EMULATOR)
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/snakefmt $(SNAKEFILES)
	$(BIN)/clang-format -i $(KERNELS) $(EMULATOR)

setup: $(STAMP)

# torch goes first, alone: only torch is asked of the other index, and its own requirements come from the default one.
$(VENV)/.torch: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("phasevae needs Python 3.11 or newer, found " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV): about a minute"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --retries 1 $$(grep '^torch==' requirements.lock) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(PIP) $$(grep '^torch==' requirements.lock) 'setuptools>=77' ninja
	@touch $@

$(STAMP): $(VENV)/.torch pyproject.toml setup.py
	$(EDITABLE) '.[workflow,dev]'
	@touch $@

# What a few targets need beyond the rest.
$(VENV)/.docs $(VENV)/.slurm: $(STAMP)
	$(EDITABLE) '.[workflow,$(@F:.%=%)]'
	@touch $@

# All of them, and the readers of files that fewer people have, by one call.
$(VENV)/.extras: $(STAMP)
	$(EDITABLE) '.[workflow,docs,slurm,formats]'
	@touch $(VENV)/.docs $(VENV)/.slurm $@

$(VENV)/.kernels: $(VENV)/.torch $(KERNELS) setup.py
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python setup.py --quiet build_ext --inplace > $(VENV)/kernels.log 2>&1 || { cat $(VENV)/kernels.log; exit 1; }
	@grep '^phasevae:' $(VENV)/kernels.log || true
	@touch $@

clean:
	rm -rf phasevae/_C.*.so phasevae/_build_info.json
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
