"""jobs/evaluate.py as people run it: from a bucket to a bucket, and with mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import s3fs
from prediction_tables import answer, failure, write_predictions, write_truth
from running import S3Server

from vidpipe.config import EvaluateConfig
from vidpipe.stages.evaluate import evaluate

ROOT = Path(__file__).parents[2]
LABELS = ("left", "right")


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "jobs/evaluate.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_report_comes_from_a_bucket_and_goes_to_it(s3: S3Server, twenty_videos: Path):
    bucket, fs = s3.make_bucket(), s3fs.S3FileSystem()
    video = next(twenty_videos.rglob("*.mp4"))
    fs.put_file(str(video), f"{bucket}/videos/a.mp4")
    urls = [f"{bucket}/videos/{name}.mp4" for name in "abc"]
    rows = [answer(urls[0], "left", 0.9), answer(urls[1], "left", 0.8), failure(urls[2])]
    predictions = write_predictions(f"{bucket}/predicted", LABELS, rows, run={"videos_per_s": 2.5})
    truth = [{"url": url, "label": "left", "split": "val"} for url in urls]
    manifest = write_truth(f"{bucket}/truth.parquet", truth)
    done = run(predictions, "--manifest", manifest, "--output", f"{bucket}/report", "--strips", "2")
    assert done.returncode == 0, done.stderr
    assert "top-1      66.7 %" in done.stdout
    assert f"report     {bucket}/report/report.html" in done.stdout
    assert json.loads(fs.cat_file(f"{bucket}/report/report.json"))["metrics"]["top1"] == 2 / 3
    assert json.loads(fs.cat_file(f"{bucket}/report/thresholds.json"))["thresholds"] == {"left": None, "right": None}
    page = fs.cat_file(f"{bucket}/report/report.html").decode()
    assert page.count("data:image/jpeg") == 8
    assert "cannot be decoded any more (not_found" in page


def test_a_mistake_ends_with_exit_code_2_and_the_way_out(tmp_path: Path):
    done = run(str(tmp_path / "nothing"), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "make them with jobs/predict.py" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "val"}, "its splits: train"),
        ({"manifest": "{}/gone.parquet"}, "is not there"),
        ({"checkpoint": "{}"}, "holds no checkpoint.json"),
        ({"drift_from": "{}/gone"}, "holds no predictions"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_read_is_said_before_anything_is_written(tmp_path: Path, settings: dict, message: str):
    predictions = write_predictions(tmp_path / "p", LABELS, [answer("/v/a.mp4", "left", 0.9)])
    manifest = write_truth(tmp_path / "m.parquet", [{"url": "/v/a.mp4", "label": "left", "split": "train"}])
    settings = {"manifest": manifest, **{name: value.format(tmp_path) for name, value in settings.items()}}
    with pytest.raises(ValueError, match=message):
        evaluate(EvaluateConfig(predictions=predictions, output=str(tmp_path / "out"), **settings))
    assert not (tmp_path / "out").exists()
