"""Names of strangers: kept to the byte in tables, never the name of anything that is written, text on the page."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from prediction_tables import NIGHT, answer, failure, manifest_table, write_predictions, write_truth
from small_videos import write_generated

from vidpipe.config import EvaluateConfig, IndexConfig
from vidpipe.ledger import Ledger
from vidpipe.listing import _list_s3
from vidpipe.make_parts import PartSettings, make_parts
from vidpipe.manifest import read_manifest, write_manifest
from vidpipe.manifest.make import make_manifest
from vidpipe.predictions.exports import FORMULA_BEGINNINGS, write_csv, write_jsonl
from vidpipe.predictions.schema import PREDICTION_COLUMNS
from vidpipe.report.render import shortened
from vidpipe.spec import ClipSpec
from vidpipe.stages.evaluate import evaluate

NAMES = {
    "dots": "a..mp4..",
    "a folder of dots": "a...",
    "percent dots": "%2e%2e%2fetc%2fpasswd",
    "backslashes": "a\\..\\..\\evil",
    "a line break": "a\nb",
    "a carriage return": "a\rb",
    "an escape sequence": "\x1b[2Ja",
    "a direction": "a\u202egpj",
    "look-alikes": "ｖіdeo",
    "composed otherwise": "e\u0301",
    "composed": "\u00e9",
    "255 bytes": "x" * 251,
    "a tag": "<script>alert(1)<⁄script>",
    "quotes": "\"'`; rm -rf $HOME; $(touch ran) `touch ran`",
    "an option": "--output=evil",
    "a formula": '=HYPERLINK("http:⁄⁄evil.example";"open")',
    "a template": "{{7*7}}{% include %}",
    "a format": "%s%n%(asctime)s{0}",
    "a pattern of files": "*?[a-z]%03d",
    "a URL": "http:evil.example#?token=x",
    "a chain": "a::file:",
    "a protocol of FFmpeg": "concat:a|b",
    "spaces": "  a  ",
}
PAGE_TEXTS = {
    "a script": "<script>alert(1)</script>",
    "the end of the script": "</script><script>alert(1)</script>",
    "the beginning of a comment": "<!--<script>",
    "an image": '"><img src=x onerror=alert(1)>',
    "an attribute": "' onmouseover='alert(1)",
    "a link": "javascript:alert(1)",
    "a data URL": "data:text/html,<script>alert(1)</script>",
    "a style": "</style><style>@import 'https://evil.example'</style>",
    "a base": "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=//evil.example'>",
    "a template": "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "entities": "&lt;script&gt;&#x3c;script&#x3e;",
    "separators of JSON": "\u2028\u2029</script>",
    "an svg": "<svg/onload=alert(1)>",
}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generated(tmp_path_factory.mktemp("film") / "film.mp4", "h264_mp4", num_frames=8, height=32, width=32)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_local_name_goes_through_index_and_preprocess_as_it_is_and_names_no_output(name, tmp_path, film):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(film, folder / f"{name}.mp4")
    write_manifest(make_manifest(IndexConfig(source=str(folder))), str(tmp_path / "m.parquet"))
    videos = read_manifest(str(tmp_path / "m.parquet")).to_pylist()
    assert [os.fsencode(row["url"]) for row in videos] == [os.fsencode(folder / f"{name}.mp4")]
    spec = ClipSpec(num_frames=2, size="16")
    out = tmp_path / "out"
    settings = PartSettings(
        output=str(out), spec=spec, part_bytes=1 << 20, time_limit_s=60, memory_limit_bytes=1 << 30
    )  # fmt: skip
    ledger = Ledger(str(out), spec)
    ledger.commit(make_parts(videos, settings))
    (row,) = ledger.read().to_pylist()
    assert (row["status"], row["url"]) == ("ok", str(folder / f"{name}.mp4"))
    written = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    assert len(written) == 2
    assert all(
        re.fullmatch(r"clips/[0-9a-f]{24}\.parquet|status/\d{10}-[0-9a-f]{12}\.parquet", each) for each in written
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "m.parquet", "out"]


class OneBucket:
    """What `_list_s3` asks of s3fs, for one page of objects."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys

    def call_s3(self, method: str, **request: str) -> dict:
        return {"Contents": [{"Key": key, "Size": 1, "ETag": '"e"'} for key in self.keys]}

    def unstrip_protocol(self, path: str) -> str:
        return f"s3://{path}"


def test_keys_of_a_bucket_are_listed_to_the_byte_however_long_and_odd():
    """Names that a disk cannot have, too: of 1,000 characters, with slashes, `..` and line breaks."""
    keys = [f"in/{name}.mp4" for name in NAMES.values()]
    keys += [f"in/{'x' * 1_000}.mp4", "in/a/../../../b.mp4", "in//double.mp4", "in/a\n/\x00/b.mp4", "in/http://h/a.mp4"]
    files, num_seen, more = _list_s3(OneBucket(keys), 3, {"Bucket": "b", "Prefix": "in/"}, frozenset([".mp4"]), True)
    hidden = [key for key in keys if "/." in key]  # a name that begins with a dot is hidden on a disk, too
    assert [file.url for file in files] == [f"s3://b/{key}" for key in keys if key not in hidden]
    assert (num_seen, more) == (len(files), [])


@pytest.mark.parametrize("text", PAGE_TEXTS.values(), ids=PAGE_TEXTS)
def test_a_strangers_text_is_text_on_the_page(text, tmp_path):
    """As a label, a video's name, an error and a checkpoint's address."""
    labels = (text, "walk")
    rows = [answer(f"/v/{text}", text, 0.9, labels), failure("/v/b.mp4", error=text)]
    rows.append(answer("/v/c.mp4", "walk", 0.8, ("walk", labels[0])))
    checkpoint = ("c0ffee0123456789", text)
    predictions = write_predictions(tmp_path / "p", labels, rows, checkpoint=checkpoint)
    truth = write_truth(tmp_path / "t.parquet", [{"url": row["url"], "label": labels[0]} for row in rows])
    evaluate(EvaluateConfig(predictions=predictions, manifest=truth, output=str(tmp_path / "out"), strips=0))
    page = (tmp_path / "out/report.html").read_text()
    # The page's own: its data, and its script. A stranger's would be one more, or would have ended one of these.
    assert page.count("<script") == page.count("</script>") == 2
    assert page.count("<style") == page.count("</style>") == 1
    for tag, attributes in Tags(page).found:
        assert tag not in ("base", "iframe", "object", "embed")
        assert not [name for name in attributes if name.startswith("on") or name == "srcdoc"]
        assert attributes.get("http-equiv", "Content-Security-Policy") == "Content-Security-Policy"
        for name in ("href", "src", "action", "formaction"):
            assert re.match("#|data:image/jpeg;base64,|data:,$", attributes.get(name, "#"))
    data = re.search(r'(?s)<script[^>]*type="application/json"[^>]*>(.*?)</script>', page)
    assert data is not None
    content = json.loads(data[1])
    assert not re.search("[<>&\u2028\u2029]", data[1])
    assert shortened(text, 80) in content["labels"]
    assert "default-src 'none'" in page
    assert "script-src 'sha256-" in page
    assert "unsafe-eval" not in page


class Tags(HTMLParser):
    """The tags of a page with their attributes, as a browser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


CELLS = [f"{beginning}cmd|' /C calc'!A0" for beginning in FORMULA_BEGINNINGS]


@pytest.mark.parametrize("text", CELLS, ids=map(ascii, CELLS))
def test_a_spreadsheet_takes_no_name_for_a_formula_and_the_exact_name_is_in_the_other_files(text, tmp_path):
    row = dict.fromkeys(PREDICTION_COLUMNS) | {"video_id": "0", "url": text, "label": text, "error": text}
    row |= {"score": -0.5, "top_labels": [text], "predicted_at": NIGHT, "num_clips": -1}
    table = pa.Table.from_pylist([row], pa.schema(PREDICTION_COLUMNS))
    write_csv(str(tmp_path), table)
    write_jsonl(str(tmp_path), table)
    with open(tmp_path / "predictions.csv", newline="") as file:
        (cells,) = csv.DictReader(file)
    assert [cells[name] for name in ("url", "label", "error")] == [f"'{text}"] * 3
    assert (cells["score"], cells["num_clips"]) == ("-0.5", "-1"), "numbers stay numbers"
    assert cells["top_labels"].startswith("[")
    (line,) = (tmp_path / "predictions.jsonl").read_text().split("\n")[:-1]
    assert json.loads(line)["url"] == text


@pytest.mark.parametrize("text", ["/v/a.mp4", "s3://b/=a.mp4", "walk", "läuft", "a=b", "1-2", "", "'quoted'"])
def test_other_cells_stay_as_they_are(text, tmp_path):
    row = dict.fromkeys(PREDICTION_COLUMNS) | {"video_id": "0", "url": text}
    write_csv(str(tmp_path), pa.Table.from_pylist([row], pa.schema(PREDICTION_COLUMNS)))
    with open(tmp_path / "predictions.csv", newline="") as file:
        (cells,) = csv.DictReader(file)
    assert cells["url"] == text


def test_videos_that_look_alike_are_two():
    rows = manifest_table([{"url": f"/v/{name}.mp4"} for name in ("video", "vіdeo", "ｖideo", "e\u0301", "\u00e9")])
    assert len(set(rows["video_id"].to_pylist())) == 5
