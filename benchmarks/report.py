"""How heavy is the report of many videos? Its size, and how long headless Chromium takes to open it from disk.

    python benchmarks/report.py                       # 10,000 videos of 400 classes
    python benchmarks/report.py --num-videos 100000

Wants `pip install playwright` and a Chromium. Predictions are drawn at random: names of 70 characters, a label and a
score each, a second checkpoint to compare with. Film strips are of generated videos, as many as the default shows.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

sys.path.append(str(Path(__file__).parent.parent / "tests"))

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Make a report of many videos, and open it."""

    num_videos: int = 10_000
    """Videos with a prediction; 40 of them are there to be shown."""
    num_classes: int = 400
    """Labels."""
    rounds: int = 5
    """How often the page is opened, each time by a new browser."""


def make_report(options: Options, folder: Path) -> Path:
    from prediction_tables import random_night, write_predictions, write_truth

    from vidpipe.config import EvaluateConfig
    from vidpipe.stages.evaluate import evaluate
    from vidpipe.synthetic import generate_folder

    generate_folder(str(folder / "videos"), num_videos=40, seed=0)
    there = [str(path) for path in sorted((folder / "videos").rglob("*.*"))]
    gone = [
        f"s3://archive/raw/2026/11/{index:08d}-{'camera' * 5}.mp4" for index in range(options.num_videos - len(there))
    ]
    urls = there + gone
    labels = tuple(f"class number {index}" for index in range(options.num_classes))
    truth = [labels[index % len(labels)] for index in range(len(urls))]
    nights = {
        name: write_predictions(
            folder / name,
            labels,
            random_night(urls, labels, truth, skill=skill, seed=skill),
            checkpoint=(name * 4, "/m"),
            run={"videos_per_s": 12.5},
        )
        for skill, name in ((1, "then"), (2, "now_"))
    }
    listed = [{"url": url, "label": label, "group": url[-30:-20]} for url, label in zip(urls, truth, strict=True)]
    manifest = write_truth(folder / "truth.parquet", listed)
    evaluate(
        EvaluateConfig(
            predictions=nights["now_"], against=nights["then"], manifest=manifest, output=str(folder / "report")
        )
    )
    return folder / "report" / "report.html"


def seconds_to_load(page_file: Path, executable: str) -> float:
    """From the start of the navigation to the end of the load event, of a page that no browser has seen before."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=arguments)
        page: Any = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(page_file.as_uri())
        seconds = page.evaluate(LOADED) / 1000
        browser.close()
    return float(seconds)


def main(options: Options) -> None:
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        raise SystemExit("no Chromium on this machine: install it (Debian: apt install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.monotonic()
        page_file = make_report(options, Path(folder))
        made_s = time.monotonic() - start_s
        loads = [seconds_to_load(page_file, executable) for _ in range(options.rounds)]
        print("| videos | classes | page MB | making it, s | load event, s: median (least to most) |")
        print("|---|---|---|---|---|")
        print(
            f"| {options.num_videos:,} | {options.num_classes} | {page_file.stat().st_size / 1e6:.1f} | {made_s:.1f} | "
            f"{statistics.median(loads):.2f} ({min(loads):.2f} to {max(loads):.2f}) |"
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=Options.__doc__))
