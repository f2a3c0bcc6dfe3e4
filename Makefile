# Two commands on a fresh machine with Python 3.10 or later: `make demo` and `make test`. Both set up .venv first.
# `make recipe-1` to `make recipe-5` run the scripts of recipes/; VIDEOS, SPLITS and OUT say where, see recipes/common.sh.
PYTHON ?= python3
BIN := .venv/bin

RECIPES := recipe-1 recipe-2 recipe-3 recipe-4 recipe-5

.PHONY: setup demo test lint format bench clean $(RECIPES)

setup: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	@rm -rf demo/out
	$(BIN)/python -m vidpipe.synthetic demo/videos --num-videos 60 --num-broken 2
	$(BIN)/python jobs/index.py demo/videos --layout folders --val-fraction 0.2 --output demo/manifest.parquet
	$(BIN)/python jobs/preprocess.py demo/manifest.parquet --output demo/out --size 64 --contact-sheet
	@echo
	@echo "made       60 videos with 8 labels and 2 broken ones (demo/videos), a manifest (demo/manifest.parquet),"
	@echo "           and their clips: demo/out/clips, one status row a video: demo/out/status"
	@echo "look       demo/out/contact_sheet.png"
	@echo "try next   the same preprocess command again: nothing to do, in a second; or with --dry-run"
	@echo "           $(BIN)/python jobs/preprocess.py YOUR_FOLDER --output OUT --contact-sheet"

$(RECIPES): recipe-%: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash recipes/$*-*.sh

test: setup lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/preprocess.py

clean:
	rm -rf .venv demo build *.egg-info
