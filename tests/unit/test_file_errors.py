"""Files that cannot be read: named, with the way out; the user's end with 2, those of vidpipe's own and bugs with 1."""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from golden_outputs import GOLDEN
from small_parts import RAW, clip, receipt, video

from vidpipe.checkpoint_facts import facts_from_json
from vidpipe.clips import read_clips
from vidpipe.config import EvaluateConfig, TrainConfig
from vidpipe.errors import DamagedFileError, UsageError
from vidpipe.journal import Journal
from vidpipe.lease import Lease
from vidpipe.ledger import Ledger, open_ledger
from vidpipe.manifest.layouts import hmdb51
from vidpipe.manifest.load import load_manifest
from vidpipe.manifest.schema import FILES_SCHEMA, read_manifest
from vidpipe.parts import PartWriter, clips_schema, part_name
from vidpipe.predictions import read_facts, read_predictions
from vidpipe.predictions.decisions import read_thresholds
from vidpipe.predictions.schema import prediction_schema
from vidpipe.predictions.side_table import SideTable
from vidpipe.report import read_inputs
from vidpipe.report.film import film_strips
from vidpipe.training.checks import check_same_run
from vidpipe.training.clip_rows import labelled_clips
from vidpipe.training.features import read_features
from vidpipe.training.run import read_history
from vidpipe.training.saved_state import newest_state

STAGE = """
import json, sys
import pyarrow as pa
from vidpipe.cli import run
from vidpipe.config import DoctorConfig
from vidpipe.errors import DamagedFileError, UsageError

def stage(config):
    {statement}

run(stage, DoctorConfig())
"""


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("raise pa.ArrowInvalid('not that')", 1),
        ("json.loads('{')", 1),
        ("b'\\xff'.decode()", 1),
        ("int('many')", 1),
        ("raise DamagedFileError('out/status/1.parquet is damaged')", 1),
        ("raise UsageError('size must be above 0')", 2),
    ],
)
def test_a_bug_and_a_damaged_file_end_with_1_and_their_traceback_and_a_mistake_with_2(statement: str, code: int):
    command = [sys.executable, "-c", STAGE.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (code, code == 1), done.stderr


def cut(path: Path) -> Path:
    """Leave half of a file, as an upload or a copy that broke off does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def first(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def side_table(output: Path, name: str) -> None:
    """Bring a table beside the predictions in order, one of whose videos has moved on."""
    journal = Journal(str(output / "predictions"), prediction_schema(read_facts(str(output))))
    part = first(output, f"{name}/*.parquet").name
    rows = journal.read(["video_id", f"{name}_part"])
    moved = rows.filter(pa.compute.equal(rows[f"{name}_part"], part))["video_id"].combine_chunks()[:1]
    journal.amend(moved, f"{name}_part", pa.array(["moved.parquet"]))
    shutil.copy(first(GOLDEN, f"{output.name}/{name}/*.parquet"), output / name / "moved.parquet")
    SideTable(str(output), name, journal, is_asked_for=True).tidy()


def lease(output: Path) -> None:
    Lease(str(output), "train").take()


def same_run(output: Path) -> None:
    clips = labelled_clips(str(GOLDEN / "clips"), "train", "val", "test")
    check_same_run(TrainConfig(clips=str(GOLDEN / "clips"), output=str(output)), clips)


OWN_FILES: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "status": ("clips", "status/*.parquet", lambda output: open_ledger(str(output)).read()),
    "a part, read": ("clips", "clips/*.parquet", lambda output: list(read_clips(str(output)))),
    "a part, for training": (
        *("clips", "clips/*.parquet"),
        lambda output: labelled_clips(str(output), "train", "val", "test"),
    ),
    "predictions": ("predictions", "predictions/*.parquet", lambda output: read_predictions(str(output))),
    "facts of predictions": ("predictions", "predictions/*.parquet", lambda output: read_facts(str(output))),
    "features": ("predictions", "features/*.parquet", lambda output: side_table(output, "features")),
    "segments": ("segments", "segments/*.parquet", lambda output: side_table(output, "segments")),
    "features of training": ("predictions", "features/*.parquet", lambda output: read_features(
        str(first(output, "features/*.parquet")), None)),
    "run.json": ("predictions", "run.json", lambda output: read_inputs(
        EvaluateConfig(predictions=str(output), output="report"))),
    "history.json": ("whole", "history.json", lambda output: read_history(str(output))),
    "settings.json": ("half", "settings.json", same_run),
    "lease": ("clips", "lease/*.json", lease),
}  # fmt: skip


@pytest.mark.parametrize("kind", OWN_FILES)
def test_a_damaged_file_of_an_output_is_named_with_the_way_out(kind: str, tmp_path: Path):
    name, pattern, read = OWN_FILES[kind]
    output = Path(shutil.copytree(GOLDEN / name, tmp_path / name))
    if kind == "lease":
        (output / "lease").mkdir(exist_ok=True)
        (output / "lease" / f"{'ab' * 16}.json").write_text('{"id": "ab", "command": "train"}')
    damaged = cut(max(output.glob(pattern)))
    with pytest.raises(DamagedFileError) as caught:
        read(output)
    assert str(caught.value).startswith(f"{damaged} is damaged (")
    assert "restore it from a copy, or " in str(caught.value)


def test_whatever_damage_there_is_the_status_file_is_named(tmp_path: Path):
    whole = first(GOLDEN, "clips/status/*.parquet").read_bytes()
    path = tmp_path / "status" / "0000000001-0123456789ab.parquet"
    path.parent.mkdir()
    rng, named = random.Random(0), 0
    for _ in range(150):
        data, start = bytearray(whole), rng.randrange(len(whole))
        for place in rng.sample(range(len(data)), rng.choice([1, 4])):
            data[place] ^= 1 << rng.randrange(8)
        if rng.random() < 0.5:
            data[start : start + 64] = bytes(len(data[start : start + 64]))
        path.write_bytes(data)
        try:
            open_ledger(str(tmp_path)).read(["video_id", "version", "status", "duration_s"])
        except (DamagedFileError, UsageError) as error:  # a footer that has lost vidpipe's mark is nobody's
            named += str(path) in str(error)
    assert named > 75


def test_an_unreadable_state_is_named_and_the_one_before_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    state = Path(shutil.copytree(GOLDEN / "half" / "state", tmp_path / "state"))
    kept = max(state.iterdir())
    buffer = io.BytesIO()
    torch.save({"history": "[{"}, buffer)
    (state / "99998-0000000.pt").write_bytes(buffer.getvalue())
    (state / "99999-0000000.pt").write_bytes(kept.read_bytes()[:1000])
    assert newest_state(str(tmp_path)) == kept.name
    assert [record.args[0].args[0].split(" ")[0] for record in caplog.records] == [
        str(state / "99999-0000000.pt"),
        str(state / "99998-0000000.pt"),
    ]


def test_the_way_out_of_a_damaged_part_decodes_its_own_videos_only(output: Path):
    """The message says: remove it and all of status/."""
    ledger = Ledger(str(output), RAW)
    parts = []
    for name in ("a", "b"):
        receipts = [receipt(name, 1)]
        receipts[0]["part"] = part_name(RAW, receipts)
        parts.append(output / "clips" / receipts[0]["part"])
        parts[-1].parent.mkdir(parents=True, exist_ok=True)
        writer = PartWriter(parts[-1], clips_schema(RAW, {}))
        writer.add(video(name), clip(RAW, 0))
        writer.close(receipts)
        ledger.commit(receipts)
    cut(parts[0])
    with pytest.raises(DamagedFileError, match="remove it and all of status/"):
        list(read_clips(str(output)))
    parts[0].unlink()
    shutil.rmtree(output / "status")
    listed = {
        **FILES_SCHEMA.empty_table().to_pydict(),
        "video_id": ["a", "b"],
        "url": ["/videos/a.mp4", "/videos/b.mp4"],
    }
    listed |= {"version": ["version of a", "version of b"], "label": ["left"] * 2, "split": ["train"] * 2}
    manifest = pa.table({**listed, "size_bytes": [1, 1], "group": pa.nulls(2, pa.string())})
    ledger = Ledger(str(output), RAW)
    assert ledger.adopt(ledger.work_left(manifest, retry_failed=False).todo) == 1
    assert ledger.work_left(manifest, retry_failed=False).todo["video_id"].to_pylist() == ["a"]


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="zstd")
    return sink.getvalue()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


LISTED = parquet(url=[f"a{number}.mp4" for number in range(999)])
MADE = {"video_id": ["a"], "url": ["/a.mp4"], "version": ["1"], "size_bytes": [1]}
PAGE = slice(200, 400)


def with_a_damaged_page(data: bytes) -> bytes:
    return data[: PAGE.start] + bytes(PAGE.stop - PAGE.start) + data[PAGE.stop :]


GIVEN = {
    "text.csv": b"url,label\na.mp4,x,y\n",
    "latin.csv": "url,label\nblå.mp4,x\n".encode("latin-1"),
    "nothing.csv": b"",
    "cut.jsonl": b'{"url": "a.mp4"}\n{"url": "b.m',
    "lines.ndjson": b"url\na.mp4\n",
    "text.parquet": b"url\na.mp4\n",
    "cut.parquet": half(LISTED),
    "page.parquet": with_a_damaged_page(LISTED),
    "nested.parquet": parquet(url=[{"a": 1}]),
    "sizes.parquet": parquet(**{**MADE, "size_bytes": ["many"]}),
    "cut_manifest.parquet": half(parquet(**MADE)),
    "nul.csv": b"url\na\0b.mp4\n",
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_manifest_that_cannot_be_read_is_a_mistake_and_named(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(GIVEN[name])
    with pytest.raises(UsageError) as caught:
        load_manifest(str(tmp_path / name), None)
    assert name in str(caught.value)
    if name.endswith(".parquet"):
        with pytest.raises(UsageError, match=name):
            read_manifest(str(tmp_path / name))


def test_an_official_list_that_is_no_text_is_named(tmp_path: Path):
    (tmp_path / "wave_test_split1.txt").write_bytes(b"a\xff.avi 1\n")
    with pytest.raises(UsageError, match=r"wave_test_split1\.txt is not a text"):
        hmdb51(FILES_SCHEMA.empty_table(), "videos", splits_dir=str(tmp_path), fold=1)


NO_JSON = [b"", b'{"thresholds": {', b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5_000 + b"}", b"[]", b"{}"]
NO_THRESHOLDS = [b'{"checkpoint_id": "a", "thresholds": []}', b'{"checkpoint_id": "a", "thresholds": {"x": "high"}}']


@pytest.mark.parametrize("text", [*NO_JSON, *NO_THRESHOLDS], ids=lambda text: text[:20].decode("ascii", "replace"))
def test_thresholds_that_cannot_be_read_are_a_mistake_and_named(text: bytes, tmp_path: Path):
    (tmp_path / "thresholds.json").write_bytes(text)
    with pytest.raises(UsageError, match=r"thresholds\.json is not a thresholds\.json .*make one with"):
        read_thresholds(str(tmp_path / "thresholds.json"), "a")


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:20].decode("ascii", "replace"))
def test_facts_of_a_checkpoint_that_cannot_be_read_are_a_mistake_and_named(text: bytes):
    with pytest.raises(UsageError, match=r"^/m/checkpoint\.json is not a checkpoint\.json of this version"):
        facts_from_json(text, "/m/checkpoint.json")


def test_facts_of_a_checkpoint_with_values_of_another_kind_are_a_mistake():
    content = json.loads((GOLDEN / "model" / "best" / "checkpoint.json").read_text())
    for changes in ({"size": [1, 2, 3]}, {"clip": {"size": 7}}, {"model": {"modle": "conv3d"}}, {"views": []}):
        with pytest.raises(UsageError, match=r"not a checkpoint\.json of this version"):
            facts_from_json(json.dumps(content | changes).encode(), "/m/checkpoint.json")


def test_a_bug_while_a_film_strip_is_made_is_not_taken_for_a_video_out_of_reach(monkeypatch: pytest.MonkeyPatch):
    def bug(url: str) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("vidpipe.report.film.file_info", bug)
    with pytest.raises(ValueError, match="a bug"):
        film_strips([{"video_id": "a", "url": "/a.mp4"}], None)
