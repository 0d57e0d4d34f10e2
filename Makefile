# Every target first installs the environment if it is missing or older than requirements.txt.
PYTHON ?= python3
BOARD_PORT ?= 6006
BIN := .venv/bin
UV := $(or $(shell command -v uv),$(BIN)/uv)
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --retries 8

FAILED = { echo "error: the packages could not be installed, for the reason above (no network or no disk? $$(df -h . | awk 'NR == 2 {print $$4}')" \
	"are free in $(CURDIR)); make starts again and reuses what was downloaded" >&2; exit 1; }

.PHONY: help quickstart test torture lint format board requirements clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

quickstart: .venv/ready  ## Train ReXNet on the digits that ship with scikit-learn, in about a minute
	$(BIN)/python train.py --config quickstart.yaml

test: .venv/ready  ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

torture: .venv/ready  ## Run the fault injection; writes docs/reliability.md (15 minutes)
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m torture

lint: .venv/ready  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

board: .venv/ready  ## Show all runs in TensorBoard, on this machine only
	@"$(BIN)/python" -c 'import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); sys.exit(s.connect_ex(("127.0.0.1", $(BOARD_PORT))) == 0)' \
		|| { echo "error: port $(BOARD_PORT) is in use; choose another: make board BOARD_PORT=6007" >&2; exit 2; }
	"$(BIN)/tensorboard" --logdir runs --host 127.0.0.1 --port $(BOARD_PORT)

# requirements.txt pins every package, including setuptools, with its hashes, so nothing unpinned is downloaded. The file
# `ready` is written last: an interrupted installation starts over and reuses what pip or uv has downloaded. uv is several
# times as fast as pip, so pip installs it first; if uv fails, for example because only pip is configured for the mirror
# of a company, pip also installs the rest. TMPDIR keeps pip's downloads out of a /tmp that is too small for them.
.venv/ready: export TMPDIR := $(CURDIR)/.venv/tmp
.venv/ready: requirements.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and \
		"error: Python 3.11, 3.12 or 3.13 is required, but $(PYTHON) is %d.%d; select another: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Installing into .venv (3.3 GB to download, 6 GB on disk): one or two minutes with a fast network"
	rm -rf .venv
	if command -v uv >/dev/null; then uv venv --python "$(PYTHON)" .venv; \
		else "$(PYTHON)" -m venv .venv && sed -n '/^uv==/,/# via/p' requirements.txt | $(PIP) --require-hashes -r /dev/stdin; fi || $(FAILED)
	mkdir .venv/tmp
	@"$(UV)" pip install --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.txt \
		|| { test -e $(BIN)/pip && echo "uv failed, installing with pip" && $(PIP) --require-hashes -r requirements.txt; } \
		|| $(FAILED)
	"$(UV)" pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	rm -r .venv/tmp
	touch $@

requirements: pyproject.toml  ## Update the pinned versions within the bounds of pyproject.toml
	"$(UV)" pip compile pyproject.toml --extra quickstart --extra export --extra studies --extra detection --extra dev --universal \
		--python-version 3.11 --generate-hashes --no-header --quiet --output-file requirements.txt

clean:  ## Remove the environment and caches, but no runs or data
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
