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
	@rm -rf demo/out demo/model demo/predictions
	$(BIN)/python -m vidpipe.synthetic demo/videos --num-videos 120 --num-broken 2
	$(BIN)/python jobs/index.py demo/videos --layout folders --val-fraction 0.2 --output demo/manifest.parquet
	$(BIN)/python jobs/preprocess.py demo/manifest.parquet --output demo/out --size 64 --contact-sheet
	$(BIN)/python jobs/train.py demo/out --output demo/model --model conv3d --backbone s3d --weights none --size 64 \
	    --epochs 6 --batch-size 8 --learning-rate 1e-3
	$(BIN)/python jobs/predict.py demo/manifest.parquet --checkpoint demo/model --output demo/predictions
	$(BIN)/python jobs/evaluate.py demo/predictions --manifest demo/manifest.parquet --output demo/report
	$(BIN)/python -m vidpipe.synthetic demo/new --num-videos 1 --seed 1
	$(BIN)/python jobs/predict.py demo/new/left/left_00000.mp4 --checkpoint demo/model
	@echo
	@echo "made       120 videos with 8 labels and 2 broken ones (demo/videos), a manifest (demo/manifest.parquet),"
	@echo "           their clips: demo/out/clips, one status row a video: demo/out/status, and a model: demo/model"
	@echo "accuracy   a minute from nothing, on 98 clips: expect it nearer to chance (12.5 %) than to what these videos allow;"
	@echo "           their label is a motion that no single frame shows, and takes hundreds of clips and more epochs to learn"
	@echo "look       demo/out/contact_sheet.png; $(BIN)/tensorboard --logdir demo/model/tensorboard"
	@echo "           demo/model/best/README.md: what the model is and how well it did"
	@echo "try next   the same preprocess or train command again: nothing to do; or make recipe-2"
	@echo "           $(BIN)/python jobs/preprocess.py YOUR_FOLDER --output OUT --contact-sheet"
	@echo "report     $(CURDIR)/demo/report/report.html"

$(RECIPES): recipe-%: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash recipes/$*-*.sh

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 tests/unit
	$(BIN)/python -m pytest --ignore tests/unit

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
