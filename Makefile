# make repro   everything: environment, data, the whole study -> reports/
# make test    the same set-up, then the checks of style and types, and the test suite
# make test-faults   kills, lost workers, a full disk: hours, once per release (docs/faults.md)
# make check   style and types alone
# make audit   known vulnerabilities of the packages (needs the network), and docs/licences.md
# make site    the study as a book: build/site/index.html
# make playground   a page to try the generator on, in the browser
# make plan    what the study of params.yaml will cost on this machine
# make replication   the frozen study in worlds that no choice has seen: hours (docs/primary_analysis.md)
# make ablation   what each part of the generator is worth: hours (docs/experiments.md)
# make setup   the environment alone
# make profile NAME=paper   switch to a study of params/; the old params.yaml is kept
#
# Another Python: make repro PYTHON=python3.12. On a CUDA machine pip takes the torch build that its
# index offers. More pip options: make repro PIP_ARGS="--extra-index-url ..."

PYTHON ?= python3
PIP_ARGS ?=
WORKERS ?= 2
VENV := .venv
STAMP := $(VENV)/.installed

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYOPENGL_PLATFORM := egl
export DVC_NO_ANALYTICS := 1
# Some libraries ask for the user's name; a user without passwd entry has none.
export LOGNAME ?= $(shell id -u)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# After the installation nothing may touch the network; models come from data/.
offline := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

# $(call install,PACKAGES): install system packages where this user may; otherwise print the exact
# line and stop.
install = if [ "$$(id -u)" = 0 ]; then sudo=; else sudo="sudo -n"; fi; \
	if command -v apt-get >/dev/null && $$sudo true 2>/dev/null; then \
	  echo "Installing system packages: $(1)"; \
	  $$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $(1); \
	else echo "Please run this first, then make again:  sudo apt-get install -y $(1)" >&2; exit 1; fi

.PHONY: help setup repro replication ablation test test-faults check audit site playground plan profile system browser data clean-runs
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

repro: setup data
	@# Models that have changed in their place; DVC sees only what dvc.yaml can name.
	@$(offline) python -m posedive_lib.bench.input_digests
	$(offline) dvc repro
	@echo "Done. Figures, tables and executed notebooks are in reports/."

replication: setup data
	cd replication && $(offline) dvc repro

ablation: setup data
	cd ablation && $(offline) dvc repro

test: check browser data
	OMP_NUM_THREADS=1 $(offline) python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-faults: setup data
	OMP_NUM_THREADS=1 $(offline) python -m pytest tests/test_faults.py
	$(offline) python tests/faults.py $(FAULTS_ARGS)

check: setup
	ruff check .
	ruff format --check .
	mypy

# Once per release. pip-audit is no package of the study, so it gets a folder of its own.
audit: setup
	@python tests/licences.py
	@python -m pip install $(PIP_ARGS) -q --upgrade --target build/audit pip-audit \
	  || { echo "pip-audit cannot be fetched: make audit needs the network." >&2; exit 1; }
	@PYTHONPATH=build/audit python -m pip_audit -r requirements.lock --no-deps --disable-pip \
	  || { echo "Not every package is known to be sound: see above (no network is no answer)." >&2; exit 1; }

# Shows what `make repro` made (or what came with the clone); runs nothing.
site: setup
	@$(offline) python -m posedive_lib.bench.site

# Needs the bundle alone. Another port: make playground VOILA_ARGS=--port=8900
playground: setup data
	$(offline) voila notebooks/10_playground.ipynb --theme=light --show_tracebacks=True $(VOILA_ARGS)

# Measures this machine for half a minute, once.
plan: setup
	@$(offline) python -m posedive_lib.bench.plan

# Says what changes; never loses a parameter file.
profile: setup
	@python -m posedive_lib.params.profile $(NAME)

setup: system $(STAMP)
	@python -m posedive_lib.body.opengl

# Before the long installation: Python, venv and off-screen OpenGL.
system:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found; this study needs Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("This study needs Python 3.11 or newer, but $(PYTHON) is %d.%d; name another: make repro PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { $(call install,python3-venv); }
	@$(PYTHON) -I posedive_lib/body/opengl.py --libraries 2>/dev/null \
	  || { $(call install,$(shell $(PYTHON) -I posedive_lib/body/opengl.py --packages 2>/dev/null)); } \
	  && $(PYTHON) -I posedive_lib/body/opengl.py --libraries

# The book is tested in a real browser.
browser:
	@for name in chromium chromium-browser google-chrome-stable google-chrome; do \
	  command -v $$name >/dev/null && exit 0; done; $(call install,chromium)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	# Debian 12's pip does not see the newest wheels.
	$(VENV)/bin/python -m pip install $(PIP_ARGS) -q pip==26.3
	# A package index may miss a version for a moment, and pip would remember that: once more.
	# Python compiles what it imports; to compile all of it here takes twice as long as the rest.
	$(VENV)/bin/python -m pip install $(PIP_ARGS) --no-compile -r requirements.lock || { sleep 30; \
	  $(VENV)/bin/python -m pip install $(PIP_ARGS) --no-compile --no-cache-dir -r requirements.lock; }
	$(VENV)/bin/python -m pip install $(PIP_ARGS) --no-deps -e .
	@touch $@

# The tracked inputs, from the bundle in .dvc/bundle; files that you changed yourself are kept.
data: setup
	@# A copy without git, such as a ZIP download, or build/ on another disk: DVC must not ask git.
	@test -e .git -a ! -L build || dvc config --local core.no_scm true
	@dvc pull data.dvc || test -d data || { \
	  echo "data/ could not be restored from .dvc/bundle; is the clone complete?" >&2; exit 1; }

# Run records and checkpoints let a stopped study resume; without them everything is computed again.
# The generated images lie there, too: docs/experiments.md says how to make them again.
clean-runs:
	rm -rf runs build/candidates
