"""report.html, report.json and thresholds.json, from tables to files."""

import json
import re
import subprocess
import sys
import time
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from prediction_tables import NIGHT, answer, failure, random_night, write_predictions, write_truth

from vidpipe.config import EvaluateConfig
from vidpipe.predictions.decisions import read_thresholds
from vidpipe.report.film import film_strips
from vidpipe.report.render import shortened
from vidpipe.stages.evaluate import evaluate

ROOT = Path(__file__).parents[2]
LABELS = ("run", "walk")
HOSTILE = [
    "</script><script>alert(1)</script>.mp4",
    "\"><img src=x onerror='alert(2)'>.mp4",
    "new\nline\ttab\x00\x1bescape\u2028\u202eright-to-left.mp4",
    "long" * 250 + ".mp4",
    "{{ 7 * 7 }}{% raw %}.mp4",
    "$\\frac{1}{0}$ & <b>bold</b>.mp4",
]


class Page(HTMLParser):
    """The tags of a page, what is in its scripts, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data
        else:
            self.text += data


def evaluated(tmp_path, rows, truth=None, labels=LABELS, **settings):
    predictions = write_predictions(tmp_path / "predicted", labels, rows, run={"seconds": 9.5, "videos_per_s": 3.25})
    manifest = None if truth is None else write_truth(tmp_path / "truth.parquet", truth)
    settings = {"strips": 0, "manifest": manifest, **settings}
    report = evaluate(EvaluateConfig(predictions=predictions, output=str(tmp_path / "out"), **settings))
    return report, (tmp_path / "out/report.html").read_text()


def test_the_three_files_say_the_same(tmp_path):
    rows = [answer(f"/v/{index}.mp4", "run", 0.5 + index / 100) for index in range(20)]
    truth = [{"url": f"/v/{index}.mp4", "label": "run" if index > 1 else "walk"} for index in range(20)]
    report, page = evaluated(tmp_path, rows, truth, precision=0.7, confidence=0.9)
    assert json.loads((tmp_path / "out/report.json").read_text()) == json.loads(json.dumps(report))
    limits = json.loads((tmp_path / "out/thresholds.json").read_text())
    assert limits["checkpoint_id"] == "c0ffee0123456789"
    assert (limits["precision"], limits["confidence"]) == (0.7, 0.9)
    assert limits["thresholds"] == {"run": 0.5, "walk": None}
    assert read_thresholds(str(tmp_path / "out/thresholds.json"), "c0ffee0123456789") == limits["thresholds"]
    assert limits["behind"]["run"] | {"precision_low": None} == {
        "threshold": 0.5,
        "num_videos": 20,
        "num_right": 18,
        "precision_low": None,
        "provable_precision": None,
        "num_more": None,
    }
    assert 0.7 < limits["behind"]["run"]["precision_low"] < 0.9
    assert "threshold for 70.0 %" in page
    assert "with 90 % confidence" in page
    assert report["metrics"]["top1"] == 0.9
    assert "videos a second</dt><dd>3.25</dd>" in page


def test_a_label_without_a_threshold_says_what_its_videos_show_and_how_many_more_are_needed(tmp_path):
    rows = [answer(f"/v/{index}.mp4", "run", 0.5 + index / 100) for index in range(20)]
    truth = [{"url": f"/v/{index}.mp4", "label": "run"} for index in range(20)]
    report, page = evaluated(tmp_path, rows, truth)
    assert report["thresholds"]["labels"]["run"]["threshold"] is None
    assert "none: 20 videos show 86.0\xa0%, 39 more needed" in page
    assert "none: 0 videos show nothing, 59 more needed" in page


def test_what_a_reader_must_know_is_said(tmp_path):
    rows = [answer("/v/0.mp4", "run", 0.9), failure("/v/1.mp4"), answer("/v/9.mp4", "run", 0.9)]
    truth = [{"url": f"/v/{index}.mp4", "label": label, "split": "val", "group": "g"} for index, label in enumerate(
        ["run", "run", "walk", "swim", None])]  # fmt: skip
    report, page = evaluated(tmp_path, rows, truth)
    said = " ".join([*report["warnings"], *report["protocol"]])
    assert "Without a prediction: 2 videos" in said
    assert "Never right: 1 video of 1 label unknown to the checkpoint (first: swim)" in said
    assert "1 group" in said
    assert "Split val: 4 videos with a true label" in said
    assert "Left out: 1 without a true label, 1 predicted, but not among these." in said
    assert "1 clip x 1 crop, mean softmax" in said
    for sentence in (*report["warnings"], *report["protocol"]):
        assert sentence.split("“")[0].replace("'", "&#39;") in page


def test_rows_of_another_checkpoint_are_not_this_ones_answers(tmp_path):
    write_predictions(tmp_path / "predicted", LABELS, [answer("/v/0.mp4", "run", 0.9)], checkpoint=("0ther", "/m"))
    report, _ = evaluated(tmp_path, [answer("/v/1.mp4", "run", 0.9)])
    assert report["counts"]["num_videos"] == 1
    assert "1 row of the predictions by other checkpoints" in report["warnings"][0]


def test_without_truth_the_page_tells_of_labels_scores_and_failures(tmp_path):
    rows = [answer("/v/0.mp4", "run", 0.9), answer("/v/1.mp4", "unknown", 0.4, ["walk"]), failure("/v/2.mp4")]
    rows.append(answer("/v/3.mp4", "run", 0.8, is_deleted=True))
    report, page = evaluated(tmp_path, rows)
    assert report["metrics"] is None
    assert report["counts"]["label_mix"] == [{"label": "run", "num_videos": 1, "share": 1.0}]
    assert (report["counts"]["num_unknown"], report["counts"]["num_failed"]) == (1, 1)
    assert report["failures"][0]["examples"] == [{"url": "/v/2.mp4", "error": "the file ends early"}]
    assert "1 deleted since they were predicted" in " ".join(report["protocol"])
    assert not (tmp_path / "out/thresholds.json").exists()
    assert "chart-mix" in page
    assert "chart-confusion" not in page


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        ([failure("/v/0"), failure("/v/1", "corrupt")], LABELS),
        ([answer("/v/0", "unknown", 0.2, LABELS)], LABELS),
        ([answer("/v/0", "run", 1.0)], ("run",)),
        ([answer("/v/0", "走る", 0.6), answer("/v/1", "\x00<" + "x" * 500, 0.5)], ("走る", "\x00<" + "x" * 500)),
    ],
    ids=["all failed", "all unknown", "one label", "other letters"],
)
@pytest.mark.parametrize("has_truth", [True, False])
def test_a_page_with_next_to_nothing_on_it_is_made_without_complaint(tmp_path, rows, labels, has_truth):
    truth = [{"url": row["url"], "label": labels[index % len(labels)]} for index, row in enumerate(rows)]
    report, page = evaluated(tmp_path, rows, truth if has_truth else None, labels=labels)
    assert report["counts"]["num_videos"] == len(rows)
    assert page.count("<section") == 7  # no comparison, no drift


def test_a_manifest_without_labels_makes_the_page_of_the_night(tmp_path):
    report, _ = evaluated(tmp_path, [answer("/v/0.mp4", "run", 0.9)], [{"url": "/v/0.mp4", "split": "val"}])
    assert report["metrics"] is None
    with pytest.raises(ValueError, match="no label in split val"):
        evaluated(tmp_path, [answer("/v/0.mp4", "run", 0.9)], [{"url": "/v/0.mp4", "split": "val"}], split="val")


def test_against_another_checkpoint_lists_what_got_better_and_worse(tmp_path):
    truth = [{"url": f"/v/{index}.mp4", "label": "run"} for index in range(4)]
    now = [answer("/v/0.mp4", "run", 0.9), answer("/v/1.mp4", "walk", 0.7), answer("/v/2.mp4", "run", 0.6)]
    now.append(failure("/v/3.mp4"))
    before = [answer("/v/0.mp4", "walk", 0.6), answer("/v/1.mp4", "run", 0.8), failure("/v/2.mp4")]
    other = write_predictions(tmp_path / "other", LABELS, before, checkpoint=("0ther", "/m"))
    report, page = evaluated(tmp_path, now, truth, against=other)
    against = report["against"]
    assert (against["num_better"], against["num_worse"], against["num_videos"]) == (2, 1, 3)
    assert against["num_left_out"] == 1
    assert [entry["url"] for entry in against["better"]] == ["/v/0.mp4", "/v/2.mp4"]
    assert against["worse"][0]["before"] == "run"
    assert "Got worse" in page
    assert "had none" in page  # of the video that failed then


def test_rows_that_were_there_the_other_night_are_not_new(tmp_path):
    old = [answer(f"/v/{index}.mp4", "run", 0.9) for index in range(3)]
    before = write_predictions(tmp_path / "before", LABELS, old)
    write_predictions(tmp_path / "predicted", LABELS, old)
    later = NIGHT + timedelta(days=1)
    report, _ = evaluated(tmp_path, [answer("/v/new.mp4", "walk", 0.5, predicted_at=later)], drift_from=before)
    drift = report["drift"]
    assert (drift["num_now"], drift["num_before"], drift["num_left_out"]) == (1, 3, 3)
    assert drift["labels"]["total_variation"] == 1
    with pytest.raises(ValueError, match="nothing is new"):
        evaluated(tmp_path / "again", old, drift_from=before)


@pytest.mark.parametrize("place", ["video", "label"])
def test_hostile_names_stay_text(tmp_path, place):
    labels = HOSTILE if place == "label" else ("run", "walk")
    urls = [f"/v/{name}" for name in HOSTILE] if place == "video" else [f"/v/{index}.mp4" for index in range(6)]
    rows = [answer(url, labels[index % len(labels)], 0.9) for index, url in enumerate(urls)]
    rows.append(failure("/v/<failed>", error="<script>alert(3)</script>"))
    truth = [{"url": url, "label": labels[(index + 1) % len(labels)]} for index, url in enumerate(urls)]
    _, text = evaluated(tmp_path, rows, truth, labels=labels)
    page = Page(text)
    assert {tag for tag, _ in page.tags} & {"b", "img"} <= {"b"}
    assert len(page.scripts) == 2
    assert "alert" not in page.scripts[1]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    data = json.loads(page.scripts[0])
    shown = data["labels"] if place == "label" else [row[0] for row in data["rows"]]
    assert any("<script>" in name for name in shown)
    assert max(map(len, shown)) <= 160
    assert all(letter.isprintable() for name in shown for letter in name)
    assert "49" not in "".join(name for name in shown if "raw" in name)


def test_the_policy_lets_run_the_pages_own_script_alone(tmp_path):
    import base64
    import hashlib

    _, text = evaluated(tmp_path, [answer("/v/0.mp4", "run", 0.9)])
    script = text.rsplit("<script>", 1)[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1).replace("&#39;", "'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    addresses = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', text))
    assert not [address for address in addresses if not address.startswith("data:")]


def test_every_chart_has_titles_on_its_axes_and_words_for_those_who_do_not_see_it(tmp_path):
    rows = random_night([f"/v/{index}" for index in range(60)], LABELS, ["run", "walk"] * 30, skill=1, seed=0)
    truth = [{"url": f"/v/{index}", "label": LABELS[index % 2]} for index in range(60)]
    _, text = evaluated(tmp_path, rows, truth)
    charts = re.findall(r'<svg role="img" aria-label="([^"]+)".*?</svg>', text, re.DOTALL)
    assert len(charts) == 4
    for axis in (
        "true label",
        "label given",
        "score (probability",
        "videos that are right (%)",
        "threshold on the score",
    ):
        assert axis in text
    assert "var(--accent)" in text
    assert "#010a" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_ten_thousand_videos_of_four_hundred_classes_make_a_small_page(tmp_path):
    labels = [f"class {index:03d}" for index in range(400)]
    urls = [f"s3://bucket/2026/11/camera-{index % 37}/video_{index:06d}.mp4" for index in range(10_000)]
    names = [labels[index * 7 % 400] for index in range(10_000)]
    truth = [{"url": url, "label": label} for url, label in zip(urls, names, strict=True)]
    start_s = time.monotonic()
    report, text = evaluated(tmp_path, random_night(urls, labels, names, skill=4, seed=0), truth, labels=labels)
    assert time.monotonic() - start_s < 60  # of a hang: 5 s is what it takes
    assert report["metrics"]["num_videos"] == 10_000
    assert len(text) < 2_000_000
    assert text.count("<tr") < 700  # rows of videos are made as they are looked at


def test_film_strips_are_frames_of_the_video_or_say_why_there_are_none(generated):
    good = str(generated["h264_mp4"])
    changed = {"video_id": "d", "url": good, "version": "of another day"}
    strips = film_strips(
        [
            changed,
            {"video_id": "a", "url": good},
            {"video_id": "b", "url": "/not/there.mp4"},
            {"video_id": "c", "url": __file__},
        ],
        None,
    )
    assert len(strips["a"].frames) == 8
    assert strips["a"].frames[0][0].startswith("data:image/jpeg;base64,")
    assert strips["a"].size_px == (192, 144)  # 128x96, without bars
    assert [time_s for _, time_s in strips["a"].frames] == sorted(time_s for _, time_s in strips["a"].frames)
    assert strips["a"].note is None
    assert "changed since it was predicted" in strips["d"].note
    assert "not_found" in strips["b"].note
    assert "cannot be decoded any more" in strips["c"].note


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": 0}, "precision must be above 0"),
        ({"precision": 1}, "precision must be above 0 and below 1, which no number of videos can show, got 1"),
        ({"confidence": 1}, "confidence must be above 0 and below 1"),
        ({"min_videos": 0}, "min_videos must be 1 or more"),
        ({"strips": 99}, "strips must be from 0"),
        ({"against": "x"}, "give --manifest"),
        ({"split": "val"}, "give --manifest"),
    ],
)
def test_a_wrong_setting_says_what_would_be_right(settings, message):
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(predictions="p", output="o", **settings)


def test_help_answers_without_the_heavy_libraries(tmp_path):
    code = (
        "import sys; from vidpipe.cli import parse; from vidpipe.config import EvaluateConfig\n"
        "sys.argv = ['evaluate.py', '--help']\n"
        "try: parse(EvaluateConfig)\n"
        "except SystemExit: print(sorted({'torch', 'ray', 'matplotlib', 'jinja2', 'pyarrow'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip().endswith("[]")


def test_a_report_needs_neither_torch_nor_ray():
    code = "import sys, vidpipe.stages.evaluate; print({'torch', 'ray', 'transformers', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "set()"


def test_a_name_is_cut_in_its_middle():
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 5) == "abc"
    assert shortened("a\nb", 5) == "a�b"
