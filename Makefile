# Two commands on a fresh machine with Python 3.10 or later: `make demo` and `make test`. Both set up .venv first.
# `make recipe-1` to `make recipe-5` run the scripts of recipes/; VIDEOS, SPLITS and OUT say where, see recipes/common.sh.
PYTHON ?= python3
BIN := .venv/bin

RECIPES := recipe-1 recipe-2 recipe-3 recipe-4 recipe-5

.PHONY: setup demo test lint format bench audit clean $(RECIPES)

setup: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	@rm -rf demo
	$(BIN)/python -m vidpipe.synthetic demo/videos --num-videos 400 --num-broken 6
	$(BIN)/python jobs/index.py demo/videos --layout folders --val-fraction 0.2 --output demo/manifest.parquet
	$(BIN)/python jobs/preprocess.py demo/manifest.parquet --output demo/out --size 64 --num-frames 8 --contact-sheet
	$(BIN)/python jobs/train.py demo/out --output demo/model --model conv3d --backbone mc3_18 --weights none --size 32 \
	    --views.resize-short 32 --epochs 5 --batch-size 8 --learning-rate 1e-3 --warmup 0.1 --num-workers 2
	$(BIN)/python jobs/predict.py demo/manifest.parquet --checkpoint demo/model --output demo/predictions
	$(BIN)/python jobs/evaluate.py demo/predictions --manifest demo/manifest.parquet --output demo/report
	@echo
	@echo "made       400 videos with 8 labels and 6 broken ones (demo/videos), a manifest (demo/manifest.parquet), their"
	@echo "           clips (demo/out), a model that was trained from nothing (demo/model), a label for each (demo/predictions)"
	@echo "accuracy   the label is a motion that no single frame shows; guessing gives 12.5 %"
	@echo "look       demo/out/contact_sheet.png; demo/model/best/README.md: what the model is and how well it did"
	@echo "           $(BIN)/tensorboard --logdir demo/model/tensorboard"
	@echo "try next   any of these commands again: nothing to do; one video of your own:"
	@echo "           $(BIN)/python jobs/predict.py YOUR_VIDEO --checkpoint demo/model"
	@echo "report     $(CURDIR)/demo/report/report.html"

$(RECIPES): recipe-%: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash recipes/$*-*.sh

test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --durations 15 tests/unit
	$(BIN)/python -m pytest --ignore tests/unit --durations 30

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

# --strict: a package that could not be looked up is a failure, not a line under "no known vulnerabilities".
audit: setup
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement deploy/requirements.txt

clean:
	rm -rf .venv demo build *.egg-info
