# Two commands on a fresh machine: `make reproduce` and `make test`.  Each does its own set-up.

PRESET ?= laptop
STUDY ?= all
CORPUS ?=
EXTENDED ?= 0
PYTHON3 ?= $(shell command -v python3.11 || command -v python3)
# A CPU-only (or a certain CUDA) build of PyTorch:  make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check
READY := $(VENV)/ready

# OpenMP threads that sleep while they wait (spinning ones slow a shared machine many times over), and what
# Python and cuBLAS need for equal results; our own kernel before one of the same name in the home folder.
export OMP_WAIT_POLICY := PASSIVE
export PYTHONHASHSEED := 0
export CUBLAS_WORKSPACE_CONFIG := :4096:8
export JUPYTER_PREFER_ENV_PATH := 1

.PHONY: help setup system reproduce test test-slurm test-lab fuzz corpora lab benchmark clean

help:  ## list the targets
	@echo "make TARGET [PRESET=smoke|laptop|overnight|paper] [STUDY=transfer_learning] [CORPUS=folder] [EXTENDED=1]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(READY)  ## install everything into .venv, and FluidSynth with its SoundFonts where allowed

reproduce: $(READY)  ## regenerate every table and figure: corpora, runs, notebooks (PRESET, STUDY, CORPUS, EXTENDED)
	$(PYTHON) -m snakemake --workflow-profile profiles/local \
		--config preset="$(PRESET)" study="$(STUDY)" corpus="$(CORPUS)" extended="$(EXTENDED)"

# The Snakefile's lint and dry run are tests like any other; nbval runs every notebook with its defaults (smoke).
test: $(READY)  ## check the style, run the tests and every notebook
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 tests notebooks

test-slurm: $(READY)  ## run a study over a SLURM of one node, where slurm-wlm and munge are installed: minutes
	$(PYTHON) -m pytest -s tests/slurm/cluster.py

test-lab: $(READY)  ## run a notebook in JupyterLab, clicked in Chromium where that is installed: minutes
	$(PYTHON) -m pytest -s tests/lab/session.py

fuzz: $(READY)  ## thousands of damaged files, kills and full disks (hours; goes on where it stopped): docs/reliability.md
	$(PYTHON) -m tests.fuzz

corpora: $(READY)  ## fetch the open scores and lists at pinned versions, verified (for the overnight preset)
	$(PYTHON) -m duet.cli corpora

lab: $(READY)  ## open JupyterLab with the kernel of .venv
	$(PYTHON) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

benchmark: $(READY)  ## measure what the study promises about speed
	$(PYTHON) -m pytest benchmarks

clean:  ## delete what can be made again: caches, checkpoints, smoke and laptop results
	rm -rf .cache .snakemake .pytest_cache .ruff_cache .hypothesis .benchmarks results/smoke results/laptop

# torch comes first and alone, so that nothing else can pull in another build of it.  tinysoundfont asks for pyaudio,
# which needs a compiler and is only for playing aloud: it is installed without.
$(READY): requirements.txt pyproject.toml apt.txt
	@$(MAKE) --no-print-directory system
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "duet needs Python 3.11 or newer"; exit 1; }
	$(PYTHON3) -m venv $(VENV)
	$(PIP) install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$$(grep '^torch==' requirements.txt)"
	grep -v '^tinysoundfont==' requirements.txt > $(VENV)/requirements.txt
	$(PIP) install -r $(VENV)/requirements.txt
	$(PIP) install --no-deps "$$(grep '^tinysoundfont==' requirements.txt)" -e .
	@touch $@

# The packages of apt.txt, where that is possible without asking; everything goes on without them.
system:
	@if ! command -v apt-get > /dev/null; then \
		echo "No apt-get here. If they are missing, install FluidSynth and a General MIDI SoundFont yourself (see apt.txt)."; \
	elif dpkg -s $$(cat apt.txt) > /dev/null 2>&1; then \
		echo "System packages of apt.txt: all there."; \
	else \
		if [ "$$(id -u)" = 0 ]; then sudo=; else sudo="sudo -n"; fi; \
		{ $$sudo apt-get update -q && \
		  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$(cat apt.txt); } || \
		echo "The system packages of apt.txt could not be installed: going on with the built-in synthesiser."; \
	fi
